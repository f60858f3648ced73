package authz

# The plans that would allow this request, cheapest first.
_upgrade := [plan | some plan in _catalog.by_price; _would_help(plan)]

_would_help(plan) if {
	_reason == "feature_not_in_plan"
	_overrides_legible
	not _overridden # switched off by an override: no plan helps
	_action.feature in _catalog.plans[plan].features
}

_would_help(plan) if {
	_reason == "quota_exceeded"
	plan != input.plan
	count(_exceeded) > 0
	every meter in _exceeded {
		plan in input.exceeded[meter].fits_in # the ledger names plans: no number comes in here
	}
}

_waiting_helps if {
	count(_exceeded) > 0
	every meter in _exceeded {
		input.exceeded[meter].after_reset == true
	}
}
