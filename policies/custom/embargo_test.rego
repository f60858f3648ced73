package custom_test

# Of this one rule: others of the company's own may deny the same.
_recording := {
	"action": "recording.start",
	"role": "member",
	"plan": "any",
	"status": "active",
	"overrides": {"features": {}},
	"room": {"fits_in": ["any"], "waiting_helps": false},
}

_cases := {
	"a recording from an embargoed country is denied": {
		"input": object.union(_recording, {"context": {"country": "XA"}}),
		"denied": true,
	},
	"and from the other one too": {
		"input": object.union(_recording, {"context": {"country": "XB"}}),
		"denied": true,
	},
	"a recording from elsewhere is not": {
		"input": object.union(_recording, {"context": {"country": "FR"}}),
		"denied": false,
	},
	"anything but a recording is not, wherever it comes from": {
		"input": object.union(_recording, {"action": "roleplay.start", "context": {"country": "XA"}}),
		"denied": false,
	},
	"without context the rule has nothing to say": {"input": _recording, "denied": false},
}

test_cases[sentence] if {
	some sentence, case in _cases
	denials := data.custom.denials with input as case.input
	denied := count({code | some code in denials; code == "recording_embargo"}) == 1
	denied == case.denied
}
