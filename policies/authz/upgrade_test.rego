package authz_test

_creating := object.union(_reading, {"action": "page.create", "role": "writer"})

_publishing := object.union(_reading, {"action": "page.publish", "role": "writer"})

_exporting := object.union(_reading, {"action": "page.export", "role": "writer"})

# Which plans are offered, cheapest first, and the status that this makes. `data` changes the catalog.
_upgrades := {
	"every plan with the feature is offered, the cheapest first": {
		"input": _exporting,
		"want": ["plus", "full"],
		"status": 402,
	},
	"a plan that has the feature and no room is not offered": {
		"input": object.union(_publishing, {"plan": null, "room": {"fits_in": ["full"], "waiting_helps": false}}),
		"want": ["full"],
		"status": 402,
	},
	"nor is one that has room and not the feature": {
		"input": object.union(_publishing, {"room": {"fits_in": ["full", "plus"], "waiting_helps": true}}),
		"data": {"plans": {"plus": {"features": []}}},
		"want": ["full"],
		"status": 402,
	},
	"nor is any where none has both": {
		"input": object.union(_publishing, {"plan": null, "room": _nowhere}),
		"want": [],
		"status": 403,
	},
	"to a plan that is not declared the cheapest of all may be an upgrade": {
		"input": object.union(_publishing, {"plan": null, "room": _room}),
		"want": ["free", "plus", "full"],
		"status": 402,
	},
	"for a feature a cheaper plan is offered too": {
		"input": object.union(_exporting, {"plan": "plus"}),
		"data": {"plans": {"free": {"features": ["export"]}, "plus": {"features": []}}},
		"want": ["free", "full"],
		"status": 402,
	},
	"and one at the same price": {
		"input": _exporting,
		"data": {"plans": {"plus": {"price": 0}}},
		"want": ["plus", "full"],
		"status": 402,
	},
	"for room a cheaper plan is not": {
		"input": object.union(_creating, {
			"plan": "plus",
			"room": {"fits_in": ["free", "full"], "waiting_helps": false},
		}),
		"want": ["full"],
		"status": 402,
	},
	"nor is one at the same price": {
		"input": object.union(_creating, {"room": {"fits_in": ["full", "plus"], "waiting_helps": true}}),
		"data": {"plans": {"plus": {"price": 0}}},
		"want": ["full"],
		"status": 402,
	},
	"but to a plan that is not declared every plan is dearer": {
		"input": object.union(_creating, {"plan": null, "room": _room}),
		"want": ["free", "plus", "full"],
		"status": 402,
	},
	"a plan that is not sold is not offered for a feature": {
		"input": _exporting,
		"data": {"plans": {"plus": {"sold": false}}},
		"want": ["full"],
		"status": 402,
	},
	"nor for room": {
		"input": object.union(_creating, {"room": {"fits_in": ["full", "plus"], "waiting_helps": true}}),
		"data": {"plans": {"plus": {"sold": false}}},
		"want": ["full"],
		"status": 402,
	},
	"nor is one that does not say that it is sold": {
		"input": _exporting,
		"lacks": ["/plans/plus/sold"],
		"want": ["full"],
		"status": 402,
	},
	"whoever has a plan that is not sold is offered dearer ones": {
		"input": object.union(_creating, {
			"plan": "plus",
			"room": {"fits_in": ["full"], "waiting_helps": false},
		}),
		"data": {"plans": {"plus": {"sold": false}}},
		"want": ["full"],
		"status": 402,
	},
	"nothing is offered against a feature that was switched off by hand": {
		"input": object.union(_publishing, {"overrides": {"features": {"share": false}}, "room": _room}),
		"want": [],
		"status": 403,
	},
	"nor against overrides that cannot be read": {
		"input": object.union(_publishing, {"overrides": {"features": null}, "room": _room}),
		"want": [],
		"status": 403,
	},
	"nor where a rule of the company's own would deny it there": {
		"input": _exporting,
		"custom": {"no_exports_today"},
		"want": [],
		"status": 403,
	},
	"nor in a plan that is missing": {
		"input": object.remove(_exporting, ["plan"]),
		"want": [],
		"status": 403,
	},
	"nobody is offered the plan that they have": {
		"input": object.union(_creating, {"room": _room}),
		"lacks": ["/plans/free/limits/pages"],
		"want": ["plus", "full"],
		"status": 402,
	},
	"nor a plan that is not declared": {
		"input": object.union(_creating, {"room": {"fits_in": ["gold"], "waiting_helps": false}}),
		"want": [],
		"status": 403,
	},
	"the word true is no promise that waiting helps": {
		"input": object.union(_creating, {"room": {"fits_in": [], "waiting_helps": "true"}}),
		"want": [],
		"status": 403,
	},
	"and room that cannot be read is no promise of anything": {
		"input": object.union(_creating, {"room": {"fits_in": {"in": "full"}, "waiting_helps": true}}),
		"want": [],
		"status": 403,
	},
	"where it is not said what would help, nothing does": {
		"input": object.union(_creating, {"room": {}}),
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
	plans := json.remove(object.union(_plans, object.get(case, "data", {})), object.get(case, "lacks", []))
	verdict := data.authz.decision with input as case.input
		with data.authz.plans as plans
		with data.custom.denials as object.get(case, "custom", set())
	{"upgrade": verdict.upgrade, "status": verdict.status} == {"upgrade": case.want, "status": case.status}
}

test_no_plan_is_offered_where_nobody_grants if {
	verdict := data.authz.decision with input as _exporting
		with data.authz.plans as _plans
		with data.authz.grants as set()
	verdict.upgrade == []
}

# What rules of the company's own see of a question in another plan, where they are asked about it.
_rooms_there := {
	"where it fits there is nothing to wait for": {
		"given": _no_room,
		"want": {"fits_in": ["full"], "waiting_helps": false},
	},
	"what takes nothing takes nothing anywhere": {"given": null, "want": null},
	"what cannot be read is none": {"given": {"fits_in": ["full"]}, "want": null},
}

test_rooms_there[sentence] if {
	some sentence, case in _rooms_there
	room := data.authz._room_there with input as {"room": case.given}
	room == case.want
}
