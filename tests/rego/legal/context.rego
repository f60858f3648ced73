# METADATA
# title: Rules about where a request comes from
# scope: package
# custom:
#   context: [mfa, age, region, amr]
package custom

import input.context as from

_mfa if input.context.mfa == true

_adult if {
	is_number(from.age)
	from.age >= 18
}

_here if object.get(input.context, "region", "") in {"FR", "DE"}

_strong if "mfa" in input.context.amr

# METADATA
# title: Denies too where nothing is known
denials contains "mfa_required" if {
	input.action == "workspace.delete"
	not _mfa
}

denials contains "too_young" if {
	input.action == "recording.start"
	not _adult
}

denials contains "not_here" if {
	input.action == "recording.start"
	not _here
}

denials contains "weak" if {
	input.action == "billing.manage"
	not _strong
}
