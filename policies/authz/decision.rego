# METADATA
# title: May this user, in this workspace, perform this action?
# description: |
#   Allowed if a rule grants and none denies. This file builds the answer; denials.rego has the rules that deny,
#   and upgrade.rego says which plan would help, or whether waiting would. What is sold and who may do what is data: data.authz.plans.
#
#   `input` is a situation: no user, no workspace, no clock and no amount, so that there are few of them.
#   After `not` stands only the bare name of a rule: `not input.role in {"owner"}` is undefined when
#   input.role is missing, and an undefined rule denies nothing.
package authz

# METADATA
# title: The verdict
# description: |
#   Defined for every input once the data is there; without data it is undefined, which is an outage and
#   not a denial. `custom.context` names the fields of input.context that rules may look at.
# entrypoint: true
# custom:
#   context: []
decision := {
	"allow": true,
	"reason": "granted",
	"status": 200,
	"charges": _charges,
	"upgrade": [],
	"waiting_helps": false,
	"needs": {},
	"detail": null,
	"revision": _catalog.revision,
} if {
	count(grants) > 0
	count(denials) == 0
}

decision := {
	"allow": false,
	"reason": _reason,
	"status": _status,
	"charges": {},
	"upgrade": _upgrade,
	"waiting_helps": _waiting_helps,
	"needs": _needs,
	"detail": _detail,
	"revision": _catalog.revision,
} if {
	count(denials) > 0
}

# METADATA
# title: Who grants
# description: A rule that grants adds its code here.
grants contains "role" if _role_suffices

# Several rules may deny; the first in this order is the reason. A stranger learns nothing else, and nobody is
# offered a plan who lacks the role to use it.
_precedence := [
	"not_a_member",
	"unknown_action",
	"workspace_suspended",
	"role_insufficient",
	"feature_not_in_plan",
	"quota_exceeded",
	"denied_by_policy",
]

_reason := [reason | some reason in _precedence; reason in denials][0]

# Payment is required exactly where it would help; else it is too many requests exactly where waiting would.
default _status := 403

_status := 402 if count(_upgrade) > 0

_status := 429 if {
	count(_upgrade) == 0
	_waiting_helps == true
}

default _needs := {}

_needs := {"roles": _action.roles} if _reason == "role_insufficient"

_needs := {"feature": _action.feature} if _reason == "feature_not_in_plan"

default _detail := null

_detail := code if {
	_reason == "denied_by_policy"
	some code in _custom_denials
	every other in _custom_denials { code <= other } # the first by name, so that the answer is deterministic
}

# The meters that the ledger charges, with the plan's limits; null for unlimited.
_charges := {meter: limit |
	some meter in object.keys(_action.takes)
	limit := _plan.limits[meter]
}
