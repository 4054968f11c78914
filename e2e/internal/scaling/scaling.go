// Package scaling reckons what a number of users asks of Traefik, Redis and the provider. It simulates requests second by second, with
// the costs that docs/scaling.md gives as measured, and makes that page's table.
package scaling

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
)

// Load is how many people do what.
type Load struct {
	Sessions     int     // in use at the same time
	Rate         float64 // requests a second of each
	Replicas     int
	Sticky       bool    // the balancer sends a session to one replica
	CacheSeconds float64 // session.store.cacheSeconds
	TokenSeconds float64 // life of an access token
	Logouts      float64 // pushed, a second
}

// Cost is what one piece of work takes.
type Cost struct {
	CPU      float64 // seconds of Traefik's processor time, beside the request
	Commands float64 // in Redis
	Redis    float64 // seconds of Redis's processor time
}

// Costs are those of the page.
type Costs struct {
	Look, Refresh, Logout Cost
	Request               float64 // seconds of processor time of a signed-in request, with Traefik's own work
	Session               float64 // bytes of a session in a Traefik's memory
}

// Result is what a load comes to, each a second.
type Result struct {
	Looks, Refreshes, Commands float64
	TraefikCores, RedisCores   float64 // beside the requests themselves; Traefik's of all replicas together
}

const (
	simulated = 120  // seconds, after as many in which the sessions spread
	sample    = 1500 // sessions that are simulated; they are independent, so the rest is multiplication
)

// Simulate lets sessions make requests at random moments (a Poisson process) and counts what each costs: a replica looks into Redis
// when its copy of the session is older than CacheSeconds, and whoever comes when the token is due refreshes it.
func Simulate(load Load, costs Costs) Result {
	random := rand.New(rand.NewPCG(1, 2)) // the same table each time
	looks, refreshes := 0, 0
	for range sample {
		looked := make([]float64, load.Replicas)
		for i := range looked {
			looked[i] = math.Inf(-1)
		}
		lead := math.Min(60, load.TokenSeconds/10) // session.go, refreshTime
		due := random.Float64() * load.TokenSeconds
		home := random.IntN(load.Replicas)
		for now := random.ExpFloat64() / load.Rate; now < 2*simulated; now += random.ExpFloat64() / load.Rate {
			at := home
			if !load.Sticky {
				at = random.IntN(load.Replicas)
			}
			counts := now >= simulated
			if now >= due {
				due = now + load.TokenSeconds - lead
				looked[at] = now
				if counts {
					refreshes++
				}
			} else if now-looked[at] >= load.CacheSeconds {
				looked[at] = now
				if counts {
					looks++
				}
			}
		}
	}
	scale := float64(load.Sessions) / sample / simulated
	r := Result{Looks: float64(looks) * scale, Refreshes: float64(refreshes) * scale}
	for _, part := range []struct {
		number float64
		cost   Cost
	}{{r.Looks, costs.Look}, {r.Refreshes, costs.Refresh}, {load.Logouts, costs.Logout}} {
		r.Commands += part.number * part.cost.Commands
		r.TraefikCores += part.number * part.cost.CPU
		r.RedisCores += part.number * part.cost.Redis
	}
	return r
}

// costRow is a row of the page's first table: work, processor time, commands, Redis's processor time.
var costRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([\d.]+) (ms|µs) \| (\d+)[^|]* \| ([\d.]+) (ms|µs)[^|]* \|$`)

// requestRow and sessionRow are two more rows of the page.
var (
	requestRow = regexp.MustCompile(`(?m)^\| signed-in request, fresh copy[^|]* \| ([\d.]+) ms`)
	sessionRow = regexp.MustCompile(`(?m)^\| live session in a replica's memory \| ([\d.]+) KB`)
)

// ReadCosts finds the measured costs in the page.
func ReadCosts(page string) (Costs, error) {
	costs, found := Costs{}, 0
	if row := requestRow.FindStringSubmatch(page); row != nil {
		costs.Request = seconds(row[1], "ms")
		found++
	}
	if row := sessionRow.FindStringSubmatch(page); row != nil {
		size, _ := strconv.ParseFloat(row[1], 64)
		costs.Session = size * 1024
		found++
	}
	for _, row := range costRow.FindAllStringSubmatch(page, -1) {
		var cost *Cost
		switch {
		case strings.Contains(row[1], "entry unchanged"):
			cost = &costs.Look
		case row[1] == "refresh":
			cost = &costs.Refresh
		case row[1] == "pushed logout":
			cost = &costs.Logout
		default:
			continue
		}
		found++
		cost.CPU, cost.Redis = seconds(row[2], row[3]), seconds(row[5], row[6])
		cost.Commands, _ = strconv.ParseFloat(row[4], 64)
	}
	if found != 5 {
		return costs, fmt.Errorf("the tables of costs have %d of the five rows that are needed", found)
	}
	return costs, nil
}

func seconds(number, unit string) float64 {
	value, _ := strconv.ParseFloat(number, 64)
	if unit == "ms" {
		return value / 1e3
	}
	return value / 1e6
}

// loads are the rows of the page's table.
var loads = []Load{
	{Sessions: 1_000, Rate: 1, Replicas: 2, Sticky: true, CacheSeconds: 2, TokenSeconds: 300, Logouts: 1},
	{Sessions: 10_000, Rate: 0.2, Replicas: 3, CacheSeconds: 2, TokenSeconds: 300, Logouts: 5},
	{Sessions: 10_000, Rate: 2, Replicas: 3, CacheSeconds: 2, TokenSeconds: 300, Logouts: 5},
	{Sessions: 10_000, Rate: 2, Replicas: 3, Sticky: true, CacheSeconds: 2, TokenSeconds: 300, Logouts: 5},
	{Sessions: 10_000, Rate: 2, Replicas: 3, CacheSeconds: 10, TokenSeconds: 300, Logouts: 5},
	{Sessions: 100_000, Rate: 0.2, Replicas: 10, Sticky: true, CacheSeconds: 2, TokenSeconds: 900, Logouts: 50},
	{Sessions: 100_000, Rate: 2, Replicas: 10, Sticky: true, CacheSeconds: 2, TokenSeconds: 300, Logouts: 50},
}

// Table is the page's table of simulated loads.
func Table(costs Costs) string {
	var b strings.Builder
	b.WriteString("| sessions in use | requests/s of each | replicas | sticky | `cacheSeconds` | looks/s | refreshes/s | commands/s | cores of Redis | cores of all Traefiks, beside the requests |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, load := range loads {
		r := Simulate(load, costs)
		sticky := "no"
		if load.Sticky {
			sticky = "yes"
		}
		fmt.Fprintf(&b, "| %d | %v | %d | %s | %v | %s | %s | %s | %.2f | %.1f |\n", load.Sessions, load.Rate, load.Replicas, sticky, load.CacheSeconds,
			rounded(r.Looks), rounded(r.Refreshes), rounded(r.Commands), r.RedisCores, r.TraefikCores)
	}
	return b.String()
}

// What one of each carries: the page says so.
const (
	coresOfTraefik    = 2
	megabytesOfMemory = 48     // for sessions: three quarters of the default of the option memory
	commandsOfRedis   = 50_000 // a second
	refreshesOfIssuer = 500    // a second, of the provider
	requestsOfPerson  = 0.1    // a second
)

// Limits is the page's table of what is used up first. People work at the same time, each at one replica, with five-minute tokens.
func Limits(costs Costs) string {
	var b strings.Builder
	b.WriteString("| people | replicas | requests/s | cores of each Traefik | MB of sessions in each | commands/s | refreshes/s | used up first |\n|---|---|---|---|---|---|---|---|\n")
	for _, people := range []int{10_000, 100_000, 1_000_000} {
		for _, replicas := range []int{1, 10, 100} {
			r := Simulate(Load{Sessions: people, Rate: requestsOfPerson, Replicas: replicas, Sticky: true, CacheSeconds: 2, TokenSeconds: 300}, costs)
			requests := float64(people) * requestsOfPerson
			cores := (r.TraefikCores + requests*costs.Request) / float64(replicas)
			megabytes := costs.Session * float64(people) / float64(replicas) / (1 << 20)
			first, most := "", 0.0
			for _, limit := range []struct {
				what  string
				share float64
			}{
				{fmt.Sprintf("the %d cores of each Traefik", coresOfTraefik), cores / coresOfTraefik},
				{fmt.Sprintf("`memory`, %d MB of it", megabytesOfMemory), megabytes / megabytesOfMemory},
				{"one Redis", r.Commands / commandsOfRedis},
				{"the provider", r.Refreshes / refreshesOfIssuer},
			} {
				if limit.share > most {
					first, most = limit.what, limit.share
				}
			}
			fmt.Fprintf(&b, "| %d | %d | %s | %.2f | %s | %s | %s | %s: %.0f %% |\n", people, replicas, rounded(requests), cores, rounded(megabytes), rounded(r.Commands), rounded(r.Refreshes), first, 100*most)
		}
	}
	return b.String()
}

// rounded has two digits that mean something.
func rounded(value float64) string {
	step := math.Pow(10, math.Max(0, math.Floor(math.Log10(value))-1))
	return strconv.FormatFloat(math.Round(value/step)*step, 'f', -1, 64)
}
