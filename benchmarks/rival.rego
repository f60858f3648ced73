# What a user would write for OPA's own server: memberships in its memory, the same table, the same question.
package rival

default answer := {"allow": false}

answer := {"allow": true, "role": role, "plan": workspace.plan} if {
	workspace := data.workspaces[input.workspace]
	role := workspace.members[input.user]
	action := data.actions[input.action]
	role in action.roles
	_has(action.feature, workspace.plan)
}

_has(null, _)

_has(feature, plan) if feature in data.plans[plan].features
