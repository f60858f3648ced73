package custom

# Indented, and with a pattern in the head.
  _is(one, other) if one == other

_tier("starter") := "free"

_tier(plan) := "paid" if plan in {"pro", "team"}

_either(plan) if plan == "pro"

_either(plan) if plan == "team"

_first([one, _]) := one

_named({"name": name}) := name

default _weight(_) := 0

_weight(plan) := 2 if plan == "team"

_price(plan) := data.authz.plans.plans[plan].price

_recursive_free(plan) := _price(plan) + 1

denials contains "function" if _is(input.plan, "pro")

denials contains "function_action" if _is(input.action, "platform.use")

denials contains "tier" if _tier(input.plan) == "paid"

denials contains "either" if _either(input.plan)

denials contains "pattern" if _first([input.plan, 1]) == "pro"

denials contains "pattern_object" if _named({"name": input.role}) == "admin"

denials contains "weight" if _weight(input.plan) == 2

denials contains "price" if _recursive_free(input.plan) == 150

denials contains "output" if {
	count(input.room.fits_in, n)
	n == 2
}
