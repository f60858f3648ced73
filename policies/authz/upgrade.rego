package authz

# The plans in which this very question would be granted now, cheapest first.
_upgrade := [plan | some plan in _catalog.by_price; _offered(plan); _granted_in(plan)]

_offered(plan) if {
	_reason == "feature_not_in_plan"
	_another(plan)
}

_offered(plan) if {
	_reason == "quota_exceeded"
	_another(plan)
	_dearer(plan)
}

_another(plan) if {
	_catalog.plans[plan].sold == true
	plan != input.plan
}

_dearer(plan) if _catalog.plans[plan].price > _plan.price

_dearer(_) if not _priced # a plan that is not declared is cheaper than all

_priced if is_number(_plan.price)

# All rules are asked again, as they would be if the workspace had that plan.
_granted_in(plan) if {
	room := _room_there # the embedded engine takes a variable after "as", not the name of a rule
	count(grants) > 0 with input.plan as plan with input.room as room
	count(denials) == 0 with input.plan as plan with input.room as room
}

default _room_there := null

# Where it fits now there is nothing to wait for.
_room_there := {"fits_in": input.room.fits_in, "waiting_helps": false} if _room_legible

default _waiting_helps := false

_waiting_helps if {
	_reason == "quota_exceeded"
	count(denials) == 1 # waiting and something else besides is no help
	_room_legible
	input.room.waiting_helps == true
}
