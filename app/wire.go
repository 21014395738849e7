package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"comfyfleet/app/api"
	"comfyfleet/app/auth"
	"comfyfleet/app/config"
	"comfyfleet/app/jobs"
	"comfyfleet/app/outbound"
	"comfyfleet/app/server"
	"comfyfleet/app/storage"
	"comfyfleet/app/web"
	"comfyfleet/app/webhooks"
	"comfyfleet/gpu"
	"comfyfleet/gpu/comfy"
	"comfyfleet/models"
	"comfyfleet/models/store"
	"comfyfleet/views"
)

// What the parts ask for and what they get, checked where both are known.
var (
	_ gpu.Engine     = (*comfy.Client)(nil)
	_ jobs.Store     = (*store.Store)(nil)
	_ jobs.Blobs     = (*storage.Store)(nil)
	_ jobs.Fleet     = (*gpu.Manager)(nil)
	_ jobs.Fetcher   = (*outbound.Client)(nil)
	_ auth.KeyStore  = (*store.Store)(nil)
	_ webhooks.Store = (*store.Store)(nil)
)

// shutdownLimit is how long requests may take to finish after a stop.
const shutdownLimit = 10 * time.Second

// service is a running comfyfleet: every part, joined.
type service struct {
	settings *config.Settings
	log      *slog.Logger
	store    *store.Store
	blobs    *storage.Store
	keys     *auth.Keys
	fleet    *gpu.Manager
	jobs     *jobs.Service
	outbox   *webhooks.Outbox
	server   *server.Server
	admin    *admin
	metrics  *metrics
	secrets  []secret // made at this start, to be revealed

	closeCards func()
	unlock     func() error
}

// newService opens everything that s names. Close it when it does not run.
func newService(ctx context.Context, s *config.Settings, log *slog.Logger) (svc *service, err error) {
	svc = &service{settings: s, log: log, metrics: newMetrics()}
	opened := svc // the result is nil where an error returns
	defer func() {
		if err != nil {
			opened.close()
		}
	}()
	tuneMemory()
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if svc.unlock, err = store.LockDir(s.DataDir); err != nil {
		return nil, err
	}
	if svc.store, err = store.Open(ctx, s.DatabaseURL(), store.Options{Log: log}); err != nil {
		return nil, err
	}
	if svc.blobs, err = storage.Open(ctx, s.StorageURL()); err != nil {
		return nil, err
	}
	svc.keys = auth.NewKeys(svc.store, now)
	svc.admin = &admin{store: svc.store, keys: svc.keys, now: now, newID: uuid.NewString, actor: "system"}
	if svc.secrets, err = svc.admin.bootstrap(ctx, s.BootstrapKey, s.AdminEmail, s.AdminPassword); err != nil {
		return nil, err
	}
	if err := importBundled(ctx, svc.store); err != nil {
		return nil, err
	}
	if err := svc.joinFleet(ctx); err != nil {
		return nil, err
	}
	return svc, svc.joinEdges(ctx)
}

// joinFleet makes the workers and what gives them work.
func (svc *service) joinFleet(ctx context.Context) (err error) {
	s := svc.settings
	client := outbound.New(outbound.Options{Allow: s.OutboundAllow, UserAgent: "comfyfleet/" + version})
	cfg, closeCards, err := fleetConfig(s, svc.log)
	if err != nil {
		return err
	}
	svc.closeCards = closeCards
	if err := cfg.Preflight(ctx); err != nil {
		return err
	}
	describeFleet(cfg.Workers, svc.log)
	cfg.Records = workerRecords{svc.store}
	cfg.OnNodeDefs = func(raw json.RawMessage, _ string) {
		if err := svc.jobs.SetNodeDefs(raw); err != nil {
			svc.log.Warn("node definitions of a worker", "error", err)
		}
	}
	if svc.fleet, err = gpu.NewManager(cfg); err != nil {
		return err
	}
	svc.admin.fleet = svc.fleet
	svc.outbox = webhooks.New(webhooks.Options{Store: svc.store, Client: client, Log: svc.log, Now: now})
	svc.jobs = jobs.New(jobs.Config{
		Store: svc.store, Blobs: svc.blobs, Fleet: svc.fleet, Outbound: client, Log: svc.log,
		MaxQueued: s.MaxQueued, MaxQueuedPerTenant: s.MaxQueuedPerTenant,
		MinReady: s.MinReady, ScaleDownAfter: s.ScaleDownAfter, StallAfter: s.StallAfter, Retention: s.Retention,
		Finished: func(job models.Job) {
			svc.metrics.ended(job)
			if job.WebhookURL != "" {
				svc.outbox.Wake()
			}
		},
		Now: now,
	})
	return svc.loadNodeDefs(ctx)
}

// loadNodeDefs takes the newest stored definitions, so that graphs are checked before the first worker is up.
func (svc *service) loadNodeDefs(ctx context.Context) error {
	records, err := svc.store.WorkerRecords(ctx)
	if err != nil {
		return err
	}
	var newest models.WorkerRecord
	for _, r := range records {
		if r.NodeDefsAt != nil && (newest.NodeDefsAt == nil || r.NodeDefsAt.After(*newest.NodeDefsAt)) {
			newest = r
		}
	}
	if len(newest.NodeDefs) == 0 {
		return nil
	}
	return svc.jobs.SetNodeDefs(newest.NodeDefs)
}

// joinEdges makes the HTTP side.
func (svc *service) joinEdges(ctx context.Context) error {
	s := svc.settings
	svc.server = server.New(ctx, server.Config{
		Log: svc.log, TrustedProxies: s.TrustedProxies, MaxConnections: connectionLimit(),
		Observe: svc.metrics.request, Now: now,
	})
	svc.metrics.registry.MustRegister(scraped{svc.store, svc.fleet, svc.log})
	svc.metrics.serve(svc.server.App, s.MetricsToken)
	signer, err := loadSigner(ctx, svc.store)
	if err != nil {
		return err
	}
	err = api.Register(svc.server, api.Deps{
		Keys: svc.keys, Jobs: svc.jobs, Follow: api.FollowJobs(svc.jobs), FollowEnd: api.FollowJobEnds(svc.jobs), Blobs: api.StoreBlobs(svc.blobs),
		Library: svc.store, Usage: svc.store, Fleet: svc.fleet, Signer: signer,
		FreeDisk:    func() (uint64, bool) { return svc.blobs.Free(ctx) },
		MinFreeDisk: uint64(s.MinFreeDisk), PublicURL: s.PublicURL, Version: version,
		Rates: api.Rates{Submit: int(s.RateSubmit), Status: int(s.RateStatus), Manage: int(s.RateManage)},
		Now:   now, NewID: uuid.NewString,
	})
	if err != nil {
		return err
	}
	return web.Register(svc.server, web.Deps{
		Jobs: svc.jobs, Follow: web.FollowJobs(svc.jobs), Fleet: svc.fleet, People: svc.store, Tenants: svc.store,
		Library: svc.store, Stats: &house{Store: svc.store, fleet: svc.fleet}, Deliveries: svc.store, Blobs: svc.blobs,
		Throttle: auth.NewThrottle(now), Log: svc.log, Env: views.Env{Host: hostName()}, Version: version,
		PublicURL: s.Public(s.Listen), Now: now, NewID: uuid.NewString,
	})
}

// hostName is what the dashboard calls this installation.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "this machine"
	}
	return name
}

// run serves until ctx ends, then stops in order: no new requests and placements, the last words of every attempt, the
// workers, and last the outbox, which may have a webhook to send for each of them. listening is called with the address
// when requests are answered.
func (svc *service) run(ctx context.Context, listening func(address string)) error {
	defer svc.close()
	late, endLate := context.WithCancel(context.WithoutCancel(ctx))
	defer endLate()
	var after errgroup.Group
	after.Go(func() error { return svc.outbox.Run(late) })
	after.Go(func() error {
		svc.keys.Run(late, func(err error) { svc.log.Warn("last use of keys", "error", err) })
		return nil
	})

	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return svc.fleet.Run(gctx) })
	group.Go(func() error { return svc.jobs.Run(gctx) })
	group.Go(func() error { return serveControl(gctx, svc.settings.DataDir, svc.admin, svc.log) })
	group.Go(func() error { return svc.serveHTTP(gctx, listening) })
	err := group.Wait()
	endLate()
	return errors.Join(err, after.Wait())
}

// serveHTTP answers requests until ctx ends, then lets those that run finish within shutdownLimit.
func (svc *service) serveHTTP(ctx context.Context, listening func(address string)) error {
	l, err := net.Listen("tcp", svc.settings.Listen)
	if err != nil {
		return fmt.Errorf("listen (COMFYFLEET_LISTEN): %w", err)
	}
	address := l.Addr().String()
	svc.log.Info("listening", "address", address, "version", version)
	listening(address)
	served := make(chan error, 1)
	go func() { served <- svc.server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	if err := svc.server.Shutdown(stop); err != nil {
		svc.log.Warn("requests were cut off", "error", err)
	}
	return <-served
}

// close gives back what newService took, in the reverse order.
func (svc *service) close() {
	if svc.keys != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := svc.keys.Flush(ctx); err != nil {
			svc.log.Warn("last use of keys", "error", err)
		}
	}
	if svc.closeCards != nil {
		svc.closeCards()
	}
	if svc.blobs != nil {
		svc.blobs.Close()
	}
	if svc.store != nil {
		svc.store.Close()
	}
	if svc.unlock != nil {
		if err := svc.unlock(); err != nil {
			svc.log.Warn("unlock the data directory", "error", err)
		}
	}
}
