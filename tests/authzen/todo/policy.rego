# METADATA
# title: The shared to-do list of AuthZEN's interoperability events
# description: Who somebody is stands in the data; whose a to-do is, in the request.
package authzen

# METADATA
# title: What AuthZEN's endpoints answer
# entrypoint: true
default decision := false

decision if count(grants) > 0

# METADATA
# title: Who grants
# description: A rule that grants adds its code here.
grants contains "everybody_reads" if {
	_user
	input.action.name in {"can_read_user", "can_read_todos"}
}

grants contains "role_creates" if {
	input.action.name == "can_create_todo"
	some role in {"admin", "editor"}
	role in _user.roles
}

grants contains "role_reaches_all" if {
	some role in _user.roles
	input.action.name in data.authzen.reaches_all[role]
}

grants contains "role_reaches_own" if {
	some role in _user.roles
	input.action.name in data.authzen.reaches_own[role]
	input.resource.properties.ownerID == _user.id
}

_user := data.authzen.users[input.subject.id] if input.subject.type == "user"
