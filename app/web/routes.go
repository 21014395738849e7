package web

import (
	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
)

// route is one line of the table.
type route struct {
	method, path string
	role         models.Role
	handler      fiber.Handler
}

// table is every route of the dashboard that needs an operator. Whatever changes something is a POST and needs more than
// a viewer; TestRoles holds it.
func (w *Web) table() []route {
	const see, act = models.RoleViewer, models.RoleOperator
	return []route{
		{"GET", "/", see, w.home},
		{"GET", "/overview", see, w.overviewPage},
		{"POST", "/pause/:what", act, w.pause},
		{"POST", "/drain-all", act, w.drainAll},

		{"GET", "/run", see, w.runAny},
		{"POST", "/run/media", act, w.uploadMedia},
		{"GET", "/run/media/:id", see, w.showUpload},
		{"GET", "/run/media-field", see, w.emptyMedia},
		{"GET", "/run/sample/:slug/:name", see, w.showSample},
		{"POST", "/run/graph", act, w.uploadGraph},
		{"GET", "/run/graph/:id", see, w.runGraphPage},
		{"POST", "/run/graph/:id", act, w.runGraph},
		{"GET", "/run/job/:id", see, w.runJobPage},
		{"POST", "/run/job/:id", act, w.runJob},
		{"GET", "/run/:slug", see, w.runPage},
		{"POST", "/run/:slug", act, w.run},

		{"GET", "/jobs", see, w.jobsPage},
		{"GET", "/jobs.json", see, w.exportJobs},
		{"POST", "/jobs/bulk", act, w.bulk},
		{"GET", "/jobs/:id", see, w.jobPage},
		{"GET", "/jobs/:id/preview", see, w.preview},
		{"GET", "/jobs/:id/outputs.zip", see, w.zip},
		{"GET", "/jobs/:id/graph.json", see, w.graphJSON},
		{"POST", "/jobs/:id/cancel", act, w.cancelJob},
		{"POST", "/jobs/:id/retry", act, w.retryJob},
		{"POST", "/jobs/:id/priority", act, w.jobPriority},
		{"POST", "/deliveries/:id/again", act, w.redeliver},
		{"GET", "/outputs/:id", see, w.output},
		{"GET", "/media/:id", see, w.media},

		{"GET", "/gpus", see, w.gpusPage},
		{"GET", "/gpus/:name", see, w.workerPage},
		{"POST", "/gpus/:name/:verb", act, w.workerVerb},

		{"GET", "/live/overview", see, w.liveOverview},
		{"GET", "/live/jobs", see, w.liveJobs},
		{"GET", "/live/jobs/:id", see, w.liveJob},
		{"GET", "/live/run", see, w.liveRun},
		{"GET", "/live/gpus", see, w.liveGPUs},
		{"GET", "/live/gpus/:name", see, w.liveWorker},
	}
}

// routes puts the table, the sign-in and the embedded files on app.
func (w *Web) routes(app fiber.Router) {
	app.Get("/static/:hash/+", w.static)
	app.Get("/signin", w.signInPage)
	app.Post("/signin", w.signIn)
	app.Post("/signout", w.guard(models.RoleViewer, w.signOut))
	for _, r := range w.table() {
		if r.method == fiber.MethodGet {
			app.Get(r.path, w.guard(r.role, r.handler)) // answers HEAD too
			continue
		}
		app.Add(r.method, r.path, w.guard(r.role, r.handler))
	}
}
