# An example of a rule of the company's own. Rules in this folder can deny and nothing else: each adds the code
# of its denial, which the verdict shows as `detail`. This one is off: it uses input.context.country, and a field
# of the context is dropped until a policy declares it. docs/policies.md says how to switch it on.
package custom

# METADATA
# title: No recordings from where we may not keep them
# custom:
#   off_until_declared: [country]
denials contains "recording_embargo" if {
	input.action == "recording.start"
	input.context.country in _embargoed
}

_embargoed := {"XA", "XB"} # user-assigned codes: no country has them
