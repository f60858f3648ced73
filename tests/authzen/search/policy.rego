# METADATA
# title: The records of AuthZEN's search interoperability event
# description: Users and records have departments, and records have owners; all of it stands in the data.
package authzen

# METADATA
# title: What AuthZEN's endpoints answer
# entrypoint: true
default decision := false

decision if count(grants) > 0

# METADATA
# title: Who grants
# description: A rule that grants adds its code here.
grants contains "owner" if {
	input.action.name in {"view", "edit", "delete"}
	_record.owner == input.subject.id
	_user
}

grants contains "department" if {
	input.action.name == "view"
	_same_department
}

grants contains "manager" if {
	input.action.name == "view"
	_user.role == "manager"
	_record
}

grants contains "manager_of_department" if {
	input.action.name == "edit"
	_user.role == "manager"
	_same_department
}

# METADATA
# title: Who comes into question
subjects contains {"type": "user", "id": id} if some id in object.keys(data.authzen.users)

# METADATA
# title: What comes into question
resources contains {"type": "record", "id": id} if some id in object.keys(data.authzen.records)

# METADATA
# title: Which actions come into question
actions contains {"name": name} if some name in ["view", "edit", "delete"]

_same_department if _user.department == _record.department

_user := data.authzen.users[input.subject.id] if input.subject.type == "user"

_record := data.authzen.records[input.resource.id] if input.resource.type == "record"
