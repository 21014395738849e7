package api

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/server"
	"comfyfleet/models"
)

// callLimit bounds what one request may wait for the service, its body and streams apart. Fetching a submission's media
// takes up to 20 s of it.
const callLimit = 60 * time.Second

// Register adds the API's routes.
func Register(s *server.Server, d Deps) error {
	a, err := newAPI(s, d)
	if err != nil {
		return err
	}
	submit := server.Limit{Bucket: "submit", PerMinute: d.Rates.submit}
	status := server.Limit{Bucket: "status", PerMinute: d.Rates.status}
	list := server.Limit{Bucket: "list", PerMinute: d.Rates.manage}
	cancel := server.Limit{Bucket: "cancel", PerMinute: d.Rates.manage}
	read := server.Limit{Bucket: "read", PerMinute: d.Rates.status}

	r := s.App
	r.Post("/v1/jobs", a.auth(models.ScopeSubmit, submit), a.submit)
	r.Get("/v1/jobs", a.auth(models.ScopeRead, list), a.list)
	r.Get("/v1/jobs/:id", a.auth(models.ScopeRead, status), a.job)
	r.Delete("/v1/jobs/:id", a.auth(models.ScopeSubmit, cancel), a.cancel)
	r.Get("/v1/jobs/:id/events", a.auth(models.ScopeRead, read), a.events)
	r.Get("/v1/jobs/:id/ws", a.auth(models.ScopeRead, read), a.socket)
	r.Get("/v1/outputs/:id", a.signedOr(models.ScopeRead, read), a.output)
	r.Get("/v1/workflows", a.auth(models.ScopeLib, read), a.workflows)
	r.Get("/v1/workflows/:slug", a.auth(models.ScopeLib, read), a.workflow)
	r.Get("/v1/usage", a.auth(models.ScopeUsage, read), a.usage)

	r.Get("/health", a.health)
	r.Get("/livez", a.live)
	r.Get("/readyz", a.ready)
	r.Get("/openapi.json", a.openAPI)
	r.Get("/docs", a.docs)
	return nil
}

// api holds what the handlers share.
type api struct {
	Deps
	server *server.Server
	topics *topics
	pages  *pages
	cursor cursorCipher
}

func newAPI(s *server.Server, d Deps) (*api, error) {
	if d.Now == nil {
		d.Now = s.Now
	}
	a := &api{Deps: d, server: s, cursor: newCursorCipher(d.Signer)}
	a.topics = newTopics(a, d.MaxFollowers)
	pages, err := newPages()
	if err != nil {
		return nil, err
	}
	a.pages = pages
	return a, nil
}

func (a *api) auth(scope models.Scope, limit server.Limit) fiber.Handler {
	return a.server.Auth(a.Keys, scope, limit)
}

// call is the context of one call to the service.
func (a *api) call(c *fiber.Ctx) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.UserContext(), callLimit)
}
