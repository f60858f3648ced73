package authz

_catalog := data.authz.plans

_action := _catalog.actions[input.action]

_plan := _catalog.plans[input.plan]

# METADATA
# title: Who denies
# description: |
#   Each rule says "not the good case", so that a fact that is missing denies. A rule that denies adds the
#   code of its reason; docs/reasons.md lists them.
denials contains "not_a_member" if not _member

denials contains "unknown_action" if not _declared

denials contains "workspace_suspended" if not _open

denials contains "role_insufficient" if not _role_suffices

denials contains "feature_not_in_plan" if not _feature_on

denials contains "quota_exceeded" if not _room

denials contains "denied_by_policy" if count(_custom_denials) > 0

denials contains "denied_by_policy" if not _custom_legible

_member if input.role in _catalog.roles

_declared if is_array(_action.roles)

_open if input.status == "active"

_open if {
	input.status == "suspended"
	_action.while_suspended == true
}

_role_suffices if input.role in _action.roles

# --- the feature that the action needs

_feature_on if _action.feature == null # the compiler writes null: missing data must not open a door

_feature_on if _override == true

_feature_on if {
	_overrides_legible
	not _overridden
	_action.feature in _plan.features
}

_override := input.overrides.features[_action.feature]

_overridden if _stands(_override)

_overrides_legible if not _overrides_given

_overrides_legible if is_object(input.overrides.features)

_overrides_given if _stands(input.overrides)

# --- the meters that the action takes

_room if _action.takes == {}

_room if {
	_room_legible
	input.plan in input.room.fits_in
	every meter, _ in _action.takes {
		meter in object.keys(_plan.limits) # a limit that is missing denies
	}
}

_room_legible if {
	is_array(input.room.fits_in)
	is_boolean(input.room.waiting_helps)
}

# --- rules of the company's own: they can deny, and nothing else

_custom_denials contains code if some code in data.custom.denials

# Denials in another form would be ignored. They have no code, so the result is an outage, which is noticed.
_custom_legible if not _custom_given

_custom_legible if is_set(data.custom.denials)

_custom_given if _stands(data.custom.denials)

# True for any value that is defined, false and null too.
_stands(_)
