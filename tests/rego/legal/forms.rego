package custom

# Strings: raw, escaped, with other letters, over several lines.
_raw := {`starter`, "pr\u006f"}

denials contains `raw_code` if input.plan in _raw

denials contains "ümläut_日本" if input.plan == "team"

denials contains "with \"quotes\" and \\" if input.plan == "team"

_text := `a raw text
over two lines, with "quotes" and # no comment
`

denials contains "raw_lines" if {
	_text != ""
	input.status == "suspended"
}

denials contains "semicolons" if { input.plan == "pro"; input.role == "admin" }

denials contains "one_line" if input.role == "owner" # and a comment

denials contains "several_lines" if {
	# a comment first

	input.action in {
		"workspace.delete", # one
		"workspace.update",
	}

	input.role
		== "owner"
}

denials contains "brackets" if input["plan"] == "pro"

denials contains "reversed" if "pro" == input.plan

denials contains "unified" if {
	plan = input.plan
	plan = "pro"
}

denials contains "in_parentheses" if (input.plan == "pro")

denials contains "arithmetic" if {
	price := data.authz.plans.plans[input.plan].price
	2 * price + 1 > 298
	price / 1 >= 149
}
