-- wrk asks about random members of the benchmark's world: w<n> has the users u<n>-0 … u<n>-4.
-- BENCH_BODY is the question with %d for the workspace, twice, and for the user's number; then, if it wants one, %s
-- for a key that no other question has.
local workspaces = tonumber(os.getenv("BENCH_WORKSPACES"))
local template = os.getenv("BENCH_BODY")
local began = os.time()
local headers = { ["Content-Type"] = "application/json" }
local token = os.getenv("BENCH_TOKEN")
if token then
  headers["Authorization"] = "Bearer " .. token
end

function setup(thread)
  counter = (counter or 0) + 1
  thread:set("seed", counter)
end

function init()
  math.randomseed(seed)
end

function request()
  local workspace = math.random(0, workspaces - 1)
  asked = (asked or 0) + 1
  local key = string.format("%d-%d-%d", began, seed, asked)
  local body = string.format(template, workspace, math.random(0, 4), workspace, key)
  return wrk.format("POST", nil, headers, body)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "not_2xx": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
