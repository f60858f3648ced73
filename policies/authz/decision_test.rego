# A small catalog of its own, so that no change of what is sold breaks a test of the rules.
package authz_test

_plans := {
	"revision": "r1",
	"roles": ["reader", "writer", "owner"],
	"by_price": ["free", "plus", "full"],
	"plans": {
		"free": {"features": ["share"], "limits": {"pages": 10, "calls": 5}, "price": 0, "sold": true},
		"plus": {"features": ["export", "share"], "limits": {"pages": 100, "calls": 5}, "price": 9, "sold": true},
		"full": {
			"features": ["audit", "export", "share"],
			"limits": {"pages": null, "calls": 50},
			"price": 90,
			"sold": true,
		},
	},
	"actions": {
		"page.read": {
			"roles": ["reader", "writer", "owner"],
			"feature": null,
			"takes": {},
			"while_suspended": false,
		},
		"page.create": {"roles": ["writer", "owner"], "feature": null, "takes": {"pages": 1}, "while_suspended": false},
		"page.export": {"roles": ["writer", "owner"], "feature": "export", "takes": {}, "while_suspended": false},
		"page.audit": {"roles": ["owner"], "feature": "audit", "takes": {}, "while_suspended": false},
		"page.publish": {
			"roles": ["writer", "owner"],
			"feature": "share",
			"takes": {"pages": 1, "calls": 1},
			"while_suspended": false,
		},
		"bill.pay": {"roles": ["owner"], "feature": null, "takes": {}, "while_suspended": true},
	},
}

_reading := {
	"action": "page.read",
	"role": "reader",
	"plan": "free",
	"status": "active",
	"overrides": {"features": {}},
	"room": null,
}

_room := {"fits_in": ["free", "full", "plus"], "waiting_helps": false}

_no_room := {"fits_in": ["full"], "waiting_helps": true}

_nowhere := {"fits_in": [], "waiting_helps": false}

# The verdict, field by field; a field that a case does not name is the same as in _reading.
_answers := {
	"a grant is a whole verdict": {
		"given": {},
		"want": {
			"allow": true,
			"reason": "granted",
			"status": 200,
			"charges": {},
			"upgrade": [],
			"waiting_helps": false,
			"needs": {},
			"detail": null,
			"revision": "r1",
		},
	},
	"and so is a denial": {
		"given": {"action": "page.export", "role": "writer"},
		"want": {
			"allow": false,
			"reason": "feature_not_in_plan",
			"status": 402,
			"charges": {},
			"upgrade": ["plus", "full"],
			"waiting_helps": false,
			"needs": {"feature": "export"},
			"detail": null,
			"revision": "r1",
		},
	},
	"what is granted charges each meter that it takes, at the plan's limit": {
		"given": {"action": "page.publish", "role": "writer", "room": _room},
		"want": {"allow": true, "charges": {"pages": 10, "calls": 5}},
	},
	"a limit that is none is charged as null": {
		"given": {"action": "page.create", "role": "writer", "plan": "full", "room": _room},
		"want": {"allow": true, "charges": {"pages": null}},
	},
	"what is denied charges nothing": {
		"given": {"action": "page.create", "role": "writer", "room": _no_room},
		"want": {"allow": false, "charges": {}},
	},
	"a stranger is told nothing more, whatever else is missing": {
		"given": {"role": null, "action": "page.export", "status": "suspended"},
		"want": {"reason": "not_a_member", "status": 403, "upgrade": [], "needs": {}, "detail": null},
	},
	"a stranger is a stranger before the action is checked": {
		"given": {"role": null, "action": null},
		"want": {"reason": "not_a_member"},
	},
	"an action that nobody declared comes before the suspension": {
		"given": {"action": null, "status": "suspended"},
		"want": {"reason": "unknown_action", "status": 403, "needs": {}},
	},
	"a suspension comes before the role": {
		"given": {"action": "page.create", "status": "suspended"},
		"want": {"reason": "workspace_suspended", "status": 403, "needs": {}},
	},
	"the role comes before the plan, and those that may are named, least first": {
		"given": {"action": "page.export"},
		"want": {"reason": "role_insufficient", "status": 403, "needs": {"roles": ["writer", "owner"]}, "upgrade": []},
	},
	"the feature comes before the quota": {
		"given": {
			"action": "page.publish",
			"role": "writer",
			"overrides": {"features": {"share": false}},
			"room": _no_room,
		},
		"want": {"reason": "feature_not_in_plan", "needs": {"feature": "share"}, "status": 403},
	},
	"the quota comes before a rule of the company's own": {
		"given": {"action": "page.create", "role": "writer", "room": _no_room},
		"custom": {"no_pages_today"},
		"want": {"reason": "quota_exceeded", "status": 403, "upgrade": [], "detail": null},
	},
	"a rule of the company's own can deny what all others grant, and is named": {
		"given": {},
		"custom": {"no_pages_today"},
		"want": {"allow": false, "reason": "denied_by_policy", "status": 403, "detail": "no_pages_today", "upgrade": []},
	},
	"of several such rules the first by name is told": {
		"given": {},
		"custom": {"no_pages_today", "first_by_name", "no_readers"},
		"want": {"reason": "denied_by_policy", "detail": "first_by_name"},
	},
	"a rule that denies in another form than a set of codes is not passed over": {
		"given": {},
		"custom": true,
		"want": {"allow": false, "reason": "denied_by_policy", "status": 403, "detail": null},
	},
	"payment is required where a plan would help": {
		"given": {"action": "page.audit", "role": "owner"},
		"want": {"status": 402, "upgrade": ["full"]},
	},
	"where no plan would help but waiting does, it is too many requests": {
		"given": {
			"action": "page.create",
			"role": "writer",
			"room": {"fits_in": [], "waiting_helps": true},
		},
		"want": {"reason": "quota_exceeded", "status": 429, "upgrade": [], "waiting_helps": true},
	},
	"where both would help it is payment, and the verdict says that waiting helps": {
		"given": {"action": "page.create", "role": "writer", "room": _no_room},
		"want": {"reason": "quota_exceeded", "status": 402, "upgrade": ["full"], "waiting_helps": true},
	},
	"where neither would help it is forbidden": {
		"given": {"action": "page.create", "role": "writer", "room": _nowhere},
		"want": {"reason": "quota_exceeded", "status": 403, "upgrade": [], "waiting_helps": false},
	},
	"waiting does not help whom something else denies besides": {
		"given": {"action": "page.create", "role": "writer", "room": {"fits_in": [], "waiting_helps": true}},
		"custom": {"no_pages_today"},
		"want": {"reason": "quota_exceeded", "status": 403, "upgrade": [], "waiting_helps": false},
	},
	"nor who takes nothing": {
		"given": {"action": "bill.pay", "room": {"fits_in": [], "waiting_helps": true}},
		"want": {"reason": "role_insufficient", "status": 403, "waiting_helps": false},
	},
	"nor who is denied for another reason": {
		"given": {"action": "page.create", "room": {"fits_in": [], "waiting_helps": true}},
		"want": {"reason": "role_insufficient", "status": 403, "waiting_helps": false},
	},
}

test_answers[sentence] if {
	some sentence, case in _answers
	verdict := data.authz.decision with input as object.union(_reading, case.given)
		with data.authz.plans as _plans
		with data.custom.denials as object.get(case, "custom", set())
	object.filter(verdict, object.keys(case.want)) == case.want
}

# Without data there is no verdict at all: that is an outage, and not a denial.
_no_data := {
	"nothing is decided without plans": {},
	"nor by data that names no revision": object.remove(_plans, ["revision"]),
}

test_no_data[sentence] if {
	some sentence, plans in _no_data
	verdicts := {verdict | verdict := data.authz.decision with input as _reading with data.authz.plans as plans}
	count(verdicts) == 0
}

# A rule must grant: no denial is not enough.
test_nothing_is_granted_that_nobody_grants if {
	verdicts := {verdict |
		verdict := data.authz.decision with input as _reading
			with data.authz.plans as _plans
			with data.authz.grants as set()
	}
	count(verdicts) == 0
}

test_it_is_the_role_that_grants if {
	data.authz.grants == {"role"} with input as _reading with data.authz.plans as _plans
}

test_without_rules_of_the_companys_own_nothing_is_missing if {
	verdict := data.authz.decision with input as _reading with data.authz.plans as _plans with data.custom as {}
	verdict.reason == "granted"
}
