-- Sends GET / with the headers of the environment. COOKIE may have %d, which is another number in each request; TOKENS and COOKIES
-- name files of bearer tokens and cookies, one a line, sent one after the other. At the end it prints one line of JSON.
local cookie = os.getenv("COOKIE") or ""
local base = { ["Host"] = os.getenv("HOST_NAME"), ["Accept"] = "text/html", ["Accept-Encoding"] = "gzip", ["Accept-Language"] = "en",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  ["Sec-Fetch-Mode"] = "navigate", ["Sec-Fetch-Site"] = "same-origin", ["Sec-Fetch-Dest"] = "document" }
if os.getenv("BEARER") ~= "" then base["Authorization"] = "Bearer " .. os.getenv("BEARER") end
if cookie ~= "" then base["Cookie"] = cookie end
local turns, header = {}, nil
for name, of in pairs({ TOKENS = "Authorization", COOKIES = "Cookie" }) do
  if os.getenv(name) ~= "" then
    header = of
    for line in io.lines(os.getenv(name)) do turns[#turns + 1] = (of == "Cookie" and "" or "Bearer ") .. line end
  end
end

local count, fixed = 0, nil
function init() fixed = wrk.format("GET", "/", base) end

function request()
  count = count + 1
  if #turns > 0 then
    base[header] = turns[(count - 1) % #turns + 1]
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
