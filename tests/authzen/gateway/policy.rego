# METADATA
# title: The to-do list again, as an API gateway asks
# description: May this identity use this method on this route? Whose a to-do is, the service behind decides.
package authzen

# METADATA
# title: What AuthZEN's endpoints answer
# entrypoint: true
default decision := false

decision if {
	input.subject.type == "identity"
	input.resource.type == "route"
	some role in data.authzen.roles[input.subject.id]
	role in data.authzen.routes[input.resource.id][input.action.name]
}
