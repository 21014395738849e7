package api

import (
	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
)

// health says how the service is: GET /health, for everybody. It is 200 as long as somebody answers.
func (a *api) health(c *fiber.Ctx) error {
	workers := a.Fleet.Workers()
	answering := 0
	for _, w := range workers {
		if w.State.Up() {
			answering++
		}
	}
	return c.JSON(struct {
		Status    string `json:"status"`
		Workers   int    `json:"workers"`
		Answering int    `json:"workers_answering"`
		Version   string `json:"version"`
	}{healthWord(workers), len(workers), answering, a.Version})
}

// healthWord sums the workers up. A stopped worker is well: it starts when there is work.
func healthWord(workers []models.Worker) string {
	var up, starting, stopped, ill int
	for _, w := range workers {
		switch {
		case w.State.Up():
			up++
		case w.State == models.WorkerStarting:
			starting++
		case w.State == models.WorkerBackoff || w.State == models.WorkerQuarantined:
			ill++
		case w.State == models.WorkerStopped || w.State == models.WorkerStopping:
			stopped++
		}
	}
	switch {
	case ill > 0:
		return "degraded"
	case up > 0 || stopped > 0:
		return "ok"
	case starting > 0:
		return "starting"
	}
	return "degraded" // no worker at all, or all taken out
}

// live says that the process answers: GET /livez.
func (a *api) live(c *fiber.Ctx) error {
	return c.JSON(fiber.Map{"status": "ok"})
}

// ready says whether jobs sent here can run: GET /readyz, 503 until a worker can take work or be started.
func (a *api) ready(c *fiber.Ctx) error {
	if a.server.Draining() {
		return notReady("the server is stopping")
	}
	for _, w := range a.Fleet.Workers() {
		switch w.State {
		case models.WorkerReady, models.WorkerBusy, models.WorkerStopped, models.WorkerStopping:
			return c.JSON(fiber.Map{"status": "ok"})
		}
	}
	return notReady("no worker can take work")
}

func notReady(why string) error {
	return &models.Error{Code: models.CodeUnavailable, Name: "not_ready", Detail: why, RetryAfter: 5}
}
