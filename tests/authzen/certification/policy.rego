# METADATA
# title: The fixture of AuthZEN's certification scenario
# description: |
#   Two users, two records, three actions. It believes what a request says of roles and states, as the scenario
#   demands; a policy for production must not.
package authzen

# METADATA
# title: What AuthZEN's endpoints answer
# entrypoint: true
default decision := false

decision if {
	_known
	count(grants) > 0
	not _archived_for_all_but_admins
}

# METADATA
# title: Who grants
# description: A rule that grants adds its code here.
grants contains "reads" if input.action.name == "read"

grants contains "writes" if {
	input.action.name == "write"
	input.subject.id in data.authzen.writers
}

grants contains "administers" if {
	input.action.name == "write"
	_is_admin
	_is_archived
}

grants contains "deletes_softly" if {
	input.action.name == "delete"
	input.action.properties.soft == true
	input.subject.id in data.authzen.writers
}

# METADATA
# title: Who comes into question
subjects contains {"type": "user", "id": id} if some id in object.keys(data.authzen.users)

# METADATA
# title: What comes into question
resources contains {"type": "record", "id": id} if some id in object.keys(data.authzen.records)

# METADATA
# title: Which actions come into question
actions contains {"name": name} if some name in ["delete", "read", "write"]

_known if {
	input.subject.type == "user"
	input.subject.id in object.keys(data.authzen.users)
	input.resource.type == "record"
	input.resource.id in object.keys(data.authzen.records)
}

_archived_for_all_but_admins if {
	input.action.name != "read"
	_is_archived
	not _is_admin
}

_is_admin if _role == "admin"

_is_archived if _status == "archived"

# What the request says goes before what is known.
_role := input.subject.properties.role

_role := data.authzen.users[input.subject.id].role if not _role_given

_role_given if is_string(input.subject.properties.role)

_status := input.resource.properties.status

_status := data.authzen.records[input.resource.id].status if not _status_given

_status_given if is_string(input.resource.properties.status)
