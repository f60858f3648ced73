package custom

import rego.v1

denials contains "v1_import" if input.action == "billing.manage"
