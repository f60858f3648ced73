package custom.lib.deep

owners contains "owner"

owners contains role if {
	some role in data.authz.plans.roles
	startswith(role, "own")
}
