package custom

_pairs := {["recording.start", "starter"], ["platform.use", "pro"]}

_table := {
	"starter": ["recording.start", "platform.use"],
	"pro": ["platform.use"],
}

_rules := [
	{"plan": "starter", "action": "recording.start", "code": "rule_one"},
	{"plan": "pro", "action": "platform.use", "code": "rule_two"},
]

_flags["starter"] := true

_flags["pro"] := false

_blocked contains "members.invite"

_blocked contains action if {
	some action in {"members.remove", "members.change_role"}
}

denials contains "pairs" if [input.action, input.plan] in _pairs

denials contains "table" if input.action in _table[input.plan]

denials contains "table_key" if _table[input.plan]

denials contains "table_some" if {
	some plan, actions in _table
	plan == input.plan
	"platform.use" in actions
}

denials contains "get" if object.get(_table, input.plan, []) == ["platform.use"]

denials contains "get_default" if object.get(input, "plan", "none") != "none"

denials contains "get_path" if object.get(input, ["overrides", "features", "analytics"], false) == true

denials contains rule.code if {
	some rule in _rules
	rule.plan == input.plan
	rule.action == input.action
}

denials contains "indexed" if {
	some rule in _rules
	_rules[0].plan == input.plan
	rule["action"] == input["action"]
}

denials contains "flags" if _flags[input.plan]

denials contains "blocked" if _blocked[input.action]

denials contains "blocked_in" if input.action in _blocked

denials contains "set_equal" if {input.plan} == {"pro"}

denials contains "set_two" if {input.action, input.plan} == {"recording.start", "starter"}

denials contains "set_and" if count({input.plan} & {"pro", "team"}) == 1

denials contains "set_or" if input.plan in ({"pro"} | {"team"})

denials contains "set_minus" if {"pro", "team"} - {input.plan} == {"team"}

denials contains "object_equal" if {"plan": input.plan, "role": input.role} == {"plan": "pro", "role": "owner"}

denials contains "features_equal" if input.overrides == {"features": {"analytics": false}}

denials contains "room_equal" if input.room == {"fits_in": ["team"], "waiting_helps": false}

denials contains "array_equal" if input.room.fits_in == ["pro", "team"]

denials contains "array_pattern" if {
	[action, "pro"] = [input.action, input.plan]
	action == "platform.use"
}

denials contains "keys" if "analytics" in object.keys(input.overrides.features)

denials contains "concat" if input.plan in array.concat(["pro"], ["team"])

denials contains "keyed_in" if "pro", 149 in {plan: each.price | some plan, each in data.authz.plans.plans}
