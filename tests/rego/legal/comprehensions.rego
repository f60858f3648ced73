package custom

_dear := {plan | some plan in data.authz.plans.by_price; data.authz.plans.plans[plan].price > 100}

_prices := {plan: price |
	some plan in data.authz.plans.by_price
	price := data.authz.plans.plans[plan].price
}

_actions := [action | some action in object.keys(data.authz.plans.actions); startswith(action, "members.")]

denials contains "dear" if input.plan in _dear

denials contains "dear_set" if _dear[input.plan]

denials contains "prices" if _prices[input.plan] == 299

denials contains "actions" if input.action in _actions

denials contains "nested" if {
	count([plan |
		some plan in input.room.fits_in
		count({feature | some feature in data.authz.plans.plans[plan].features; feature == "analytics"}) > 0
	]) == 1
}

denials contains "all_fit" if {
	count(input.room.fits_in) > 0
	every plan in input.room.fits_in {
		plan != "starter"
		input.role in data.authz.plans.roles
	}
}

denials contains "every_key" if {
	input.role == "owner"
	every meter, amount in data.authz.plans.actions[input.action].takes {
		is_number(amount)
		meter == "minutes"
	}
}

denials contains "indexes" if {
	some i
	input.room.fits_in[i] == "team"
	i >= 1
}

denials contains "wildcard" if input.room.fits_in[_] == "team"

denials contains "sum" if sum([price | price := data.authz.plans.plans[_].price]) > 400
