-- Sends GET / with the headers of the environment. COOKIE may have %d, which is another number in each request; TOKENS names
-- a file of bearer tokens, one a line, sent one after the other. At the end it prints one line of JSON.
local cookie = os.getenv("COOKIE") or ""
local base = { ["Host"] = os.getenv("HOST_NAME"), ["Accept"] = "text/html", ["Accept-Encoding"] = "gzip", ["Accept-Language"] = "en",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  ["Sec-Fetch-Mode"] = "navigate", ["Sec-Fetch-Site"] = "same-origin", ["Sec-Fetch-Dest"] = "document" }
if os.getenv("BEARER") ~= "" then base["Authorization"] = "Bearer " .. os.getenv("BEARER") end
if cookie ~= "" then base["Cookie"] = cookie end
local tokens = {}
if os.getenv("TOKENS") ~= "" then for line in io.lines(os.getenv("TOKENS")) do tokens[#tokens + 1] = "Bearer " .. line end end

local count, fixed = 0, nil
function init() fixed = wrk.format("GET", "/", base) end

function request()
  count = count + 1
  if #tokens > 0 then
    base["Authorization"] = tokens[count % #tokens + 1]
    return wrk.format("GET", "/", base)
  end
  if not cookie:find("%d", 1, true) then return fixed end
  base["Cookie"] = cookie:gsub("%%d", tostring(count))
  return wrk.format("GET", "/", base)
end

function done(summary, latency)
  io.write(string.format('\nRESULT {"requests":%d,"microseconds":%d,"bad":%d,"p50":%d,"p99":%d}\n', summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
