package custom

import data.authz.plans
import data.authz.plans.plans as sold
import data.custom.lib
import data.custom.lib.deep as far
import input.action as what
import input.overrides.features
import input.room

denials contains "imports" if {
	sold[input.plan].price > 100
	plans.actions[what].while_suspended == false
	count(plans.by_price) > 1
}

denials contains "imports_features" if features.video_avatar == true

denials contains "imports_room" if "team" in room.fits_in

denials contains "imports_lib" if lib.is_cheap(input.plan)

denials contains "imports_constant" if input.plan in lib.cheap

denials contains "imports_deep" if far.owners[input.role]

denials contains "imports_whole" if data.custom.lib.deep.owners[input.role]
