package custom

import future.keywords.contains
import future.keywords.every
import future.keywords.if
import future.keywords.in

denials contains "future_keywords" if {
	input.plan in {"starter", "pro"}
	every plan in ["starter", "pro"] { plan != "team" }
}
