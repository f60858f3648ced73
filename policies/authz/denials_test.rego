package authz_test

# Who denies, by the reason of the verdict. `lacks` are paths that are taken out of the situation.
_denials := {
	"a member who may is granted": {"given": {}, "want": "granted"},
	"an empty situation is a stranger's": {
		"lacks": ["/action", "/role", "/plan", "/status", "/overrides", "/room"],
		"want": "not_a_member",
	},
	# --- who the user is
	"no role is no membership": {"given": {"role": null}, "want": "not_a_member"},
	"nor is a role that is missing": {"lacks": ["/role"], "want": "not_a_member"},
	"nor is one that nobody declared": {"given": {"role": "king"}, "want": "not_a_member"},
	"nor is an empty one": {"given": {"role": ""}, "want": "not_a_member"},
	"nor is a list with a role in it": {"given": {"role": ["owner"]}, "want": "not_a_member"},
	# --- which action
	"an action that nobody declared is unknown": {"given": {"action": "page.burn"}, "want": "unknown_action"},
	"so is none": {"given": {"action": null}, "want": "unknown_action"},
	"so is one that is missing": {"lacks": ["/action"], "want": "unknown_action"},
	# --- whether anything works there
	"nothing works in a suspended workspace": {"given": {"status": "suspended"}, "want": "workspace_suspended"},
	"but for what was declared to": {
		"given": {"action": "bill.pay", "role": "owner", "status": "suspended"},
		"want": "granted",
	},
	"and that works in an active one too": {"given": {"action": "bill.pay", "role": "owner"}, "want": "granted"},
	"a status that is missing is not active": {"lacks": ["/status"], "want": "workspace_suspended"},
	"nor is one that nobody knows": {"given": {"status": "paused"}, "want": "workspace_suspended"},
	"and what works while suspended does not work in any status": {
		"given": {"action": "bill.pay", "role": "owner", "status": "paused"},
		"want": "workspace_suspended",
	},
	# --- whether the role may
	"a role that is not among those of the action is not enough": {
		"given": {"action": "page.create"},
		"want": "role_insufficient",
	},
	"each role that is among them is": {
		"given": {"action": "page.create", "role": "owner", "room": _room},
		"want": "granted",
	},
	# --- whether the plan has the feature
	"a feature that the plan has is there": {
		"given": {"action": "page.export", "role": "writer", "plan": "plus"},
		"want": "granted",
	},
	"one that it has not is not": {"given": {"action": "page.export", "role": "writer"}, "want": "feature_not_in_plan"},
	"a plan that nobody declared has none": {
		"given": {"action": "page.export", "role": "writer", "plan": "gold"},
		"want": "feature_not_in_plan",
	},
	"no plan has none": {
		"given": {"action": "page.export", "role": "writer", "plan": null},
		"want": "feature_not_in_plan",
	},
	"a plan that is missing has none": {
		"given": {"action": "page.export", "role": "writer"},
		"lacks": ["/plan"],
		"want": "feature_not_in_plan",
	},
	"what needs no feature needs no plan": {"given": {"plan": null}, "want": "granted"},
	"a feature can be switched on for one workspace": {
		"given": {"action": "page.export", "role": "writer", "overrides": {"features": {"export": true}}},
		"want": "granted",
	},
	"whatever its plan": {
		"given": {
			"action": "page.export",
			"role": "writer",
			"plan": null,
			"overrides": {"features": {"export": true}},
		},
		"want": "granted",
	},
	"and off": {
		"given": {
			"action": "page.export",
			"role": "writer",
			"plan": "plus",
			"overrides": {"features": {"export": false}},
		},
		"want": "feature_not_in_plan",
	},
	"an override that is neither on nor off is off": {
		"given": {
			"action": "page.export",
			"role": "writer",
			"plan": "plus",
			"overrides": {"features": {"export": null}},
		},
		"want": "feature_not_in_plan",
	},
	"the word true is not true": {
		"given": {"action": "page.export", "role": "writer", "overrides": {"features": {"export": "true"}}},
		"want": "feature_not_in_plan",
	},
	"an override of another feature says nothing": {
		"given": {"action": "page.export", "role": "writer", "overrides": {"features": {"audit": true}}},
		"want": "feature_not_in_plan",
	},
	"where there are no overrides the plan decides": {
		"given": {"action": "page.export", "role": "writer", "plan": "plus"},
		"lacks": ["/overrides"],
		"want": "granted",
	},
	"overrides that cannot be read might have switched it off": {
		"given": {"action": "page.export", "role": "writer", "plan": "plus", "overrides": {"features": []}},
		"want": "feature_not_in_plan",
	},
	"so might overrides without features": {
		"given": {"action": "page.export", "role": "writer", "plan": "plus"},
		"lacks": ["/overrides/features"],
		"want": "feature_not_in_plan",
	},
	"and null": {
		"given": {"action": "page.export", "role": "writer", "plan": "plus", "overrides": null},
		"want": "feature_not_in_plan",
	},
	# --- whether there is room
	"what takes nothing needs no room": {"given": {"room": _nowhere}, "want": "granted"},
	"nor one that can be read": {"lacks": ["/room"], "want": "granted"},
	"what takes something needs room in the plan that there is": {
		"given": {"action": "page.create", "role": "writer", "room": _room},
		"want": "granted",
	},
	"room in another plan is none": {
		"given": {"action": "page.create", "role": "writer", "room": {"fits_in": ["plus"], "waiting_helps": false}},
		"want": "quota_exceeded",
	},
	"nor is the promise of some": {
		"given": {"action": "page.create", "role": "writer", "room": {"fits_in": [], "waiting_helps": true}},
		"want": "quota_exceeded",
	},
	"where no room is stated there is none": {
		"given": {"action": "page.create", "role": "writer"},
		"want": "quota_exceeded",
	},
	"nor where it is missing": {
		"given": {"action": "page.create", "role": "writer"},
		"lacks": ["/room"],
		"want": "quota_exceeded",
	},
	"the names alone are no room": {
		"given": {"action": "page.create", "role": "writer", "room": ["free"]},
		"want": "quota_exceeded",
	},
	"nor are names that are no list": {
		"given": {
			"action": "page.create",
			"role": "writer",
			"room": {"fits_in": {"in": "free"}, "waiting_helps": false},
		},
		"want": "quota_exceeded",
	},
	"room that does not say whether waiting helps cannot be read": {
		"given": {"action": "page.create", "role": "writer", "room": {"fits_in": ["free"]}},
		"want": "quota_exceeded",
	},
	"nor can room that says it in a word": {
		"given": {"action": "page.create", "role": "writer", "room": {"fits_in": ["free"], "waiting_helps": "no"}},
		"want": "quota_exceeded",
	},
	"a plan that nobody declared has no limits, and what it takes has no room": {
		"given": {
			"action": "page.create",
			"role": "writer",
			"plan": "gold",
			"room": {"fits_in": ["gold"], "waiting_helps": false},
		},
		"want": "quota_exceeded",
	},
	"nor has no plan": {
		"given": {"action": "page.create", "role": "writer", "plan": null, "room": _room},
		"want": "quota_exceeded",
	},
}

test_denials[sentence] if {
	some sentence, case in _denials
	situation := json.remove(object.union(_reading, object.get(case, "given", {})), object.get(case, "lacks", []))
	verdict := data.authz.decision with input as situation
		with data.authz.plans as _plans
		with data.custom.denials as set()
	verdict.reason == case.want
}

# Data that the compiler never writes: what is missing opens no door.
_broken_data := {
	"an action without roles is not declared": {
		"lacks": ["/actions/page.read/roles"],
		"given": {},
		"want": "unknown_action",
	},
	"nor is one whose roles are no list": {
		"data": {"actions": {"page.read": {"roles": {"reader": true}}}},
		"given": {},
		"want": "unknown_action",
	},
	"an action that does not say whether it needs a feature is denied": {
		"lacks": ["/actions/page.read/feature"],
		"given": {},
		"want": "feature_not_in_plan",
	},
	"a limit that is missing denies": {
		"lacks": ["/plans/free/limits/pages"],
		"given": {"action": "page.create", "role": "writer", "room": _room},
		"want": "quota_exceeded",
	},
	"one of two is enough to deny": {
		"lacks": ["/plans/free/limits/calls"],
		"given": {"action": "page.publish", "role": "writer", "room": _room},
		"want": "quota_exceeded",
	},
	"what an action takes is missing, and might be something": {
		"lacks": ["/actions/page.read/takes"],
		"given": {"room": _room},
		"want": "quota_exceeded",
	},
	"so do roles that are missing": {"lacks": ["/roles"], "given": {}, "want": "not_a_member"},
}

test_broken_data[sentence] if {
	some sentence, case in _broken_data
	plans := json.remove(object.union(_plans, object.get(case, "data", {})), object.get(case, "lacks", []))
	verdict := data.authz.decision with input as object.union(_reading, case.given)
		with data.authz.plans as plans
		with data.custom.denials as set()
	verdict.reason == case.want
}
