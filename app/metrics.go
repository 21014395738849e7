package main

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"net/netip"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"comfyfleet/app/server"
	"comfyfleet/gpu"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

// scrapeLimit bounds what one scrape may wait for the database.
const scrapeLimit = 5 * time.Second

// metrics are the figures of /metrics. Labels come from route patterns, states and worker names: never from what a
// tenant sent, so their number is bounded.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	finished *prometheus.CounterVec
	gpuTime  prometheus.Counter
	queued   prometheus.Histogram
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "comfyfleet_http_request_duration_seconds", Help: "Answered requests by route pattern.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, []string{"method", "route", "status"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comfyfleet_jobs_finished_total", Help: "Jobs that ended, by final state and error code.",
		}, []string{"state", "code"}),
		gpuTime: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comfyfleet_gpu_seconds_total", Help: "Card time charged to tenants.",
		}),
		queued: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "comfyfleet_job_queue_seconds", Help: "Time from acceptance to the start, of jobs that ended.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 15, 60, 300, 1800, 7200},
		}),
	}
	m.registry.MustRegister(m.requests, m.finished, m.gpuTime, m.queued,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// request counts one answered request.
func (m *metrics) request(o server.Observation) {
	m.requests.WithLabelValues(o.Method, o.Route, strconv.Itoa(o.Status)).Observe(o.Took.Seconds())
}

// ended counts one job that reached its final state.
func (m *metrics) ended(job models.Job) {
	m.finished.WithLabelValues(string(job.State), job.ErrorCode).Inc()
	m.gpuTime.Add(float64(job.Metrics.GPUMS) / 1000)
	if job.StartedAt != nil {
		m.queued.Observe(float64(job.Metrics.QueueMS) / 1000)
	}
}

// serve puts /metrics on app: for the bearer of token, or without one for this machine alone.
func (m *metrics) serve(app fiber.Router, token string) {
	answer := adaptor.HTTPHandler(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	app.Get("/metrics", func(c *fiber.Ctx) error {
		if token != "" {
			if subtle.ConstantTimeCompare([]byte(c.Get(fiber.HeaderAuthorization)), []byte("Bearer "+token)) != 1 {
				return models.Errorf(models.CodeUnauth, "wrong_token", "send the metrics token: Authorization: Bearer <token>")
			}
		} else if ip, err := netip.ParseAddr(server.ClientIP(c)); err != nil || !ip.Unmap().IsLoopback() {
			return models.ErrNotFound("page")
		}
		return answer(c)
	})
}

// scraped are the figures that are read when they are asked for.
type scraped struct {
	store *store.Store
	fleet *gpu.Manager
	log   *slog.Logger
}

var (
	descWaiting = prometheus.NewDesc("comfyfleet_jobs_waiting", "Jobs that wait for a worker.", nil, nil)
	descClaimed = prometheus.NewDesc("comfyfleet_jobs_claimed", "Jobs that a worker has.", nil, nil)
	descOldest  = prometheus.NewDesc("comfyfleet_oldest_waiting_seconds", "Age of the oldest waiting job.", nil, nil)
	descWorker  = prometheus.NewDesc("comfyfleet_worker_state", "1 for the state that a worker is in.", []string{"worker", "kind", "state"}, nil)
	descJobs    = prometheus.NewDesc("comfyfleet_worker_jobs_total", "Prompts that a worker finished.", []string{"worker"}, nil)
	descStarts  = prometheus.NewDesc("comfyfleet_worker_restarts_total", "Restarts of a worker's process.", []string{"worker"}, nil)
	descUtil    = prometheus.NewDesc("comfyfleet_gpu_utilisation_ratio", "Load of a card.", []string{"worker", "uuid"}, nil)
	descMemory  = prometheus.NewDesc("comfyfleet_gpu_memory_used_bytes", "Used memory of a card.", []string{"worker", "uuid"}, nil)
	descHeat    = prometheus.NewDesc("comfyfleet_gpu_temperature_celsius", "Temperature of a card.", []string{"worker", "uuid"}, nil)
	descPower   = prometheus.NewDesc("comfyfleet_gpu_power_watts", "Power draw of a card.", []string{"worker", "uuid"}, nil)
)

// Describe implements prometheus.Collector.
func (s scraped) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s scraped) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	waiting, claimed, err := s.store.Backlog(ctx)
	oldest, any, oldestErr := s.store.OldestWaiting(ctx)
	if err != nil || oldestErr != nil {
		s.log.Warn("metrics: read the queue", "error", err)
	} else {
		gauge(descWaiting, float64(waiting))
		gauge(descClaimed, float64(claimed))
		age := 0.0
		if any {
			age = max(0, now().Sub(oldest).Seconds())
		}
		gauge(descOldest, age)
	}
	for _, w := range s.fleet.Workers() {
		gauge(descWorker, 1, w.Name, string(w.Kind), string(w.State))
		count(descJobs, w.JobsDone, w.Name)
		count(descStarts, w.Restarts, w.Name)
		if w.Card == nil || w.Telemetry == nil {
			continue
		}
		gauge(descUtil, float64(w.Telemetry.GPUUtil)/100, w.Name, w.Card.UUID)
		gauge(descMemory, float64(w.Telemetry.MemoryUsed), w.Name, w.Card.UUID)
		gauge(descHeat, float64(w.Telemetry.Temperature), w.Name, w.Card.UUID)
		gauge(descPower, w.Telemetry.Power, w.Name, w.Card.UUID)
	}
}
