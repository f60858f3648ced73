package authz_test

_creating := object.union(_reading, {"action": "page.create", "role": "writer"})

_publishing := object.union(_reading, {"action": "page.publish", "role": "writer"})

# Which plans are offered, cheapest first, and the status that this makes.
_upgrades := {
	"every plan with the feature is offered, the cheapest first": {
		"input": object.union(_reading, {"action": "page.export", "role": "writer"}),
		"want": ["plus", "full"],
		"status": 402,
	},
	"to a plan that is no longer sold the cheapest of all may be an upgrade": {
		"input": object.union(_publishing, {"plan": null}),
		"want": ["free", "plus", "full"],
		"status": 402,
	},
	"nothing is offered against a feature that was switched off by hand": {
		"input": object.union(_publishing, {"overrides": {"features": {"share": false}}}),
		"want": [],
		"status": 403,
	},
	"nor against overrides that cannot be read": {
		"input": object.union(_publishing, {"overrides": {"features": null}}),
		"want": [],
		"status": 403,
	},
	"the plans in which the amount fits are offered in the order of their prices, not of the ledger": {
		"input": object.union(_creating, {"exceeded": {"pages": {"fits_in": ["full", "plus"], "after_reset": true}}}),
		"want": ["plus", "full"],
		"status": 402,
	},
	"a plan must have room for every meter that is exceeded": {
		"input": object.union(_publishing, {"exceeded": {
			"pages": {"fits_in": ["plus", "full"], "after_reset": false},
			"calls": {"fits_in": ["full"], "after_reset": true},
		}}),
		"want": ["full"],
		"status": 402,
	},
	"and if there is none, none is offered": {
		"input": object.union(_publishing, {"exceeded": {
			"pages": {"fits_in": ["plus"], "after_reset": false},
			"calls": {"fits_in": ["full"], "after_reset": true},
		}}),
		"want": [],
		"status": 403,
	},
	"waiting must help with every meter": {
		"input": object.union(_publishing, {"exceeded": {
			"pages": {"fits_in": [], "after_reset": true},
			"calls": {"fits_in": [], "after_reset": true},
		}}),
		"want": [],
		"status": 429,
	},
	"nobody is offered the plan that they have": {
		"input": object.union(_creating, {"exceeded": {"pages": {"fits_in": ["free", "plus"], "after_reset": true}}}),
		"want": ["plus"],
		"status": 402,
	},
	"nor a plan that is not sold": {
		"input": object.union(_creating, {"exceeded": {"pages": {"fits_in": ["gold"], "after_reset": false}}}),
		"want": [],
		"status": 403,
	},
	"what the ledger says of other meters is not looked at": {
		"input": object.union(_creating, {"exceeded": {
			"pages": {"fits_in": ["plus", "full"], "after_reset": false},
			"calls": {"fits_in": [], "after_reset": false},
		}}),
		"want": ["plus", "full"],
		"status": 402,
	},
	"where the plan has no limits and nothing is exceeded, no upgrade is known": {
		"input": object.union(_creating, {"plan": null}),
		"want": [],
		"status": 403,
	},
	"the word true is no promise that waiting helps": {
		"input": object.union(_creating, {"exceeded": {"pages": {"fits_in": [], "after_reset": "true"}}}),
		"want": [],
		"status": 403,
	},
	"where it is not said what would help, nothing does": {
		"input": object.union(_creating, {"exceeded": {"pages": {}}}),
		"want": [],
		"status": 403,
	},
	"for a role no plan is offered": {
		"input": object.union(_reading, {"action": "page.export"}),
		"want": [],
		"status": 403,
	},
}

test_upgrades[sentence] if {
	some sentence, case in _upgrades
	verdict := data.authz.decision with input as case.input
		with data.authz.plans as _plans
		with data.custom.denials as set()
	{"upgrade": verdict.upgrade, "status": verdict.status} == {"upgrade": case.want, "status": case.status}
}
