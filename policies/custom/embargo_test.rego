package custom_test

# Of the test's own, so that it holds whatever the company's catalog is.
_plans := {
	"actions": {
		"recording.start": {"roles": ["member"], "feature": null, "takes": {}, "while_suspended": false},
		"roleplay.start": {"roles": ["member"], "feature": null, "takes": {}, "while_suspended": false},
	},
	"by_price": ["any"],
	"features": [],
	"meters": [],
	"plans": {"any": {"features": [], "limits": {}}},
	"revision": "test",
	"roles": ["member"],
}

_recording := {
	"action": "recording.start",
	"role": "member",
	"plan": "any",
	"status": "active",
	"overrides": {"features": {}},
	"room": {"fits_in": ["pro", "starter", "team"], "waiting_helps": false},
}

_cases := {
	"a recording from an embargoed country is denied": {
		"input": object.union(_recording, {"context": {"country": "XA"}}),
		"want": {"allow": false, "reason": "denied_by_policy", "status": 403, "detail": "recording_embargo"},
	},
	"and from the other one too": {
		"input": object.union(_recording, {"context": {"country": "XB"}}),
		"want": {"allow": false, "reason": "denied_by_policy", "detail": "recording_embargo"},
	},
	"a recording from elsewhere is not": {
		"input": object.union(_recording, {"context": {"country": "FR"}}),
		"want": {"allow": true, "reason": "granted", "status": 200, "detail": null},
	},
	"anything but a recording is not, wherever it comes from": {
		"input": object.union(_recording, {"action": "roleplay.start", "room": null, "context": {"country": "XA"}}),
		"want": {"allow": true, "reason": "granted", "status": 200, "detail": null},
	},
	"without context the rule has nothing to say": {
		"input": _recording,
		"want": {"allow": true, "reason": "granted", "status": 200, "detail": null},
	},
	"what the role may not do is denied for that and not by the rule": {
		"input": object.union(_recording, {"role": null, "context": {"country": "XA"}}),
		"want": {"allow": false, "reason": "not_a_member", "status": 403, "detail": null},
	},
}

test_cases[sentence] if {
	some sentence, case in _cases
	verdict := data.authz.decision with input as case.input with data.authz.plans as _plans
	object.filter(verdict, object.keys(case.want)) == case.want
}
