-- wrk as a gateway that asks about random users, or as a client of one. BENCH_USERS is a file with a line for each:
-- workspace and token. BENCH_DIALECT says who asks; `client` sends the request itself.
local dialect = os.getenv("BENCH_DIALECT")
local users = {}
for line in io.lines(os.getenv("BENCH_USERS")) do
  local workspace, token = line:match("^(%S+) (%S+)$")
  users[#users + 1] = { path = "/workspaces/" .. workspace .. "/roleplays", authorization = "Bearer " .. token }
end

local counter = 0

function setup(thread)
  counter = counter + 1
  thread:set("seed", counter)
end

function init()
  math.randomseed(seed)
end

function request()
  local user = users[math.random(#users)]
  local headers = { ["Authorization"] = user.authorization, ["Host"] = "app.example" }
  if dialect == "client" then
    return wrk.format("POST", user.path, headers)
  elseif dialect == "ext-authz" then
    return wrk.format("POST", "/gw/ext-authz" .. user.path, headers)
  elseif dialect == "forward-auth" then
    headers["X-Forwarded-Method"] = "POST"
    headers["X-Forwarded-Uri"] = user.path
    headers["X-Forwarded-Host"] = "app.example"
  else
    headers["X-Original-Method"] = "POST"
    headers["X-Original-URI"] = user.path
  end
  return wrk.format("GET", "/gw/" .. dialect, headers)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "not_2xx": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
