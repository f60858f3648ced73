# METADATA
# title: What an identity provider puts into a token, in AuthZEN's interoperability event
# description: It searches for the records that a user may delete, which are their own.
package authzen

# METADATA
# title: What AuthZEN's endpoints answer
# entrypoint: true
default decision := false

decision if {
	input.subject.type == "user"
	input.action.name == "delete"
	input.resource.type == "record"
	data.authzen.owners[input.resource.id] == input.subject.id
}

# METADATA
# title: What comes into question
resources contains {"type": "record", "id": id} if some id in object.keys(data.authzen.owners)
