package custom

_size := "big" if {
	input.plan == "team"
} else := "middle" if {
	input.plan == "pro"
} else := "small"

default _plan_or_none := "none"

_plan_or_none := input.plan if is_string(input.plan)

_what := input.action

_catalog := data.authz.plans

_mine := _catalog.plans[input.plan]

_suspended if input.status == "suspended"

_limits.starter := 1

_limits.pro := 2

_nested.of[plan] := price if price := data.authz.plans.plans[plan].price

denials contains "big" if _size == "big"

denials contains "small" if _size == "small"

denials contains "none" if _plan_or_none == "none"

denials contains "what" if _what == "platform.use"

denials contains "mine" if {
	_mine.price == 149
	_mine.limits.minutes == 500
	"analytics" in _mine.features
}

denials contains "suspended" if not _active

_active if input.status == "active"

denials contains "limits" if _limits[input.plan] == 2

denials contains "nested_object" if _nested.of[input.plan] == 299

denials contains code if {
	code := "by_variable"
	_suspended
}

denials contains code if {
	some code in ["one_of", "two_of"]
	_suspended
}

denials contains "unlimited" if _mine.limits.scenarios == null

denials contains "boolean" if input.room.waiting_helps

denials contains "booleans" if input.room.waiting_helps == false

denials contains "any_meter" if data.authz.plans.actions[input.action].takes[_] == 1

denials contains "feature_action" if input.action == "feature:analytics"

denials contains "by_role" if "admin" in data.authz.plans.actions[input.action].roles

denials contains "authz" if count(data.authz.grants) == 1

denials contains "undeclared" if is_null(input.plan)
