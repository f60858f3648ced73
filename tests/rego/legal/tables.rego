package custom

# A table may have an entry for all others.
_most := {"starter": 1, "default": 2}

_wild := [
	{"plan": "*", "action": "members.invite"},
	{"plan": "pro", "action": "*"},
]

_same(one, other) if one == other

_same("*", _)

denials contains "fallback" if object.get(_most, input.plan, _most["default"]) == 2

denials contains "any" if {
	some rule in _wild
	rule.plan in {input.plan, "*"}
	rule.action in {input.action, "*"}
}

denials contains "by_function" if {
	some rule in _wild
	_same(rule.plan, input.plan)
	_same(rule.action, input.action)
}
