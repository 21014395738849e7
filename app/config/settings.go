package config

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Settings are all settings. The struct is the table of options: a flag, its variable, default and help each.
// A field tagged secret is never printed.
type Settings struct {
	Listen    string `env:"COMFYFLEET_LISTEN" default:"127.0.0.1:8080" help:"Address to serve on."`
	DataDir   string `env:"COMFYFLEET_DATA_DIR" default:"./data" help:"Directory of everything that a running service keeps." type:"path"`
	PublicURL string `env:"COMFYFLEET_PUBLIC_URL" help:"Address that clients use, for links; from --listen by default." placeholder:"URL"`
	Database  string `name:"database-url" env:"COMFYFLEET_DATABASE_URL" help:"Database; sqlite:<data>/comfyfleet.db by default." placeholder:"URL" secret:"url"`
	Storage   string `name:"storage-url" env:"COMFYFLEET_STORAGE_URL" help:"Blob storage; file:<data>/blobs by default." placeholder:"URL" secret:"url"`

	Workers        string        `env:"COMFYFLEET_WORKERS" default:"auto" help:"Workers: auto, managed:0,1, attached:http://host:8188,…, sim:2; kinds are joined by ';'."`
	ComfyUIDir     string        `name:"comfyui-dir" env:"COMFYFLEET_COMFYUI_DIR" help:"Directory of ComfyUI, with its main.py." placeholder:"DIR"`
	ComfyUIPython  string        `name:"comfyui-python" env:"COMFYFLEET_COMFYUI_PYTHON" help:"Python that runs it; <comfyui>/venv/bin/python or python3 by default." placeholder:"FILE"`
	ComfyUIArgs    string        `name:"comfyui-args" env:"COMFYFLEET_COMFYUI_ARGS" help:"More arguments for ComfyUI, such as --use-sage-attention; split and quoted as in a shell." placeholder:"ARGS"`
	ModelsDir      string        `env:"COMFYFLEET_MODELS_DIR" help:"Directory of model files; <comfyui>/models by default." placeholder:"DIR"`
	MinReady       int           `env:"COMFYFLEET_MIN_READY" default:"0" help:"Workers to keep started."`
	SimArgs        string        `env:"COMFYFLEET_SIM_ARGS" help:"More arguments for simulated workers, as in a shell." placeholder:"ARGS"`
	ScaleDownAfter time.Duration `env:"COMFYFLEET_SCALE_DOWN_AFTER" default:"100s" help:"Idle time after which a worker is stopped; 0 never."`
	FreeAfter      time.Duration `env:"COMFYFLEET_FREE_AFTER" default:"50s" help:"Idle time after which a worker unloads its models; 0 never."`
	RecycleJobs    int           `env:"COMFYFLEET_RECYCLE_JOBS" default:"0" help:"Jobs after which a worker is restarted between two; 0 never."`
	RecycleRSS     Bytes         `name:"recycle-rss" env:"COMFYFLEET_RECYCLE_RSS" default:"0B" help:"Memory of a worker's process above which it is restarted between two jobs; 0 never."`
	OnShutdown     string        `env:"COMFYFLEET_ON_SHUTDOWN" default:"stop" enum:"stop,keep" help:"stop ends the workers with the server; keep leaves them and their jobs for the next server."`
	ShutdownGrace  time.Duration `env:"COMFYFLEET_SHUTDOWN_GRACE" default:"10s" help:"Time that running jobs have to finish before a stop interrupts them."`
	StallAfter     time.Duration `env:"COMFYFLEET_STALL_AFTER" default:"10m" help:"Time without progress after which a worker is restarted; also, up to a minute, how long an output may send nothing."`
	StartTimeout   time.Duration `env:"COMFYFLEET_START_TIMEOUT" default:"3m" help:"Time that a worker has to answer; it starts again while its log moves."`

	MaxQueued          int           `env:"COMFYFLEET_MAX_QUEUED" default:"100000" help:"Waiting jobs of all tenants."`
	MaxQueuedPerTenant int           `env:"COMFYFLEET_MAX_QUEUED_PER_TENANT" default:"20000" help:"Waiting jobs of one tenant."`
	Retention          time.Duration `env:"COMFYFLEET_RETENTION" default:"168h" help:"Time that finished jobs and their files are kept; 0 for ever."`
	MinFreeDisk        Bytes         `env:"COMFYFLEET_MIN_FREE_DISK" default:"2GiB" help:"Free space under which no job is accepted."`

	TrustedProxies []netip.Prefix `env:"COMFYFLEET_TRUSTED_PROXIES" help:"Networks of proxies whose X-Forwarded-For is believed." placeholder:"CIDR,…"`
	MetricsToken   string         `env:"COMFYFLEET_METRICS_TOKEN" help:"Bearer token of /metrics; without one it answers loopback only." secret:"true"`
	OutboundAllow  []netip.Prefix `env:"COMFYFLEET_OUTBOUND_ALLOW" help:"Private networks that media URLs and webhooks may reach." placeholder:"CIDR,…"`

	AdminEmail    string `env:"COMFYFLEET_ADMIN_EMAIL" help:"First operator; made at the first start."`
	AdminPassword string `env:"COMFYFLEET_ADMIN_PASSWORD" help:"Their password." secret:"true"`
	BootstrapKey  string `env:"COMFYFLEET_BOOTSTRAP_KEY" help:"API key of the default tenant, 24 characters or more; ensured at each start." secret:"true"`

	RateSubmit Rate `env:"COMFYFLEET_RATE_SUBMIT" default:"10/min" help:"POST /v1/jobs of one key, or off."`
	RateStatus Rate `env:"COMFYFLEET_RATE_STATUS" default:"120/min" help:"GET /v1/jobs/{id} and other reads of one key, or off."`
	RateManage Rate `env:"COMFYFLEET_RATE_MANAGE" default:"30/min" help:"DELETE and GET /v1/jobs of one key, or off."`

	LogLevel  string `env:"COMFYFLEET_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error."`
	LogFormat string `env:"COMFYFLEET_LOG_FORMAT" default:"auto" enum:"auto,text,json" help:"text, json, or auto: text on a terminal."`

	sources map[string]string
}

// DatabaseURL is Database with its default.
func (s *Settings) DatabaseURL() string {
	if s.Database != "" {
		return s.Database
	}
	return "sqlite:" + filepath.Join(s.DataDir, "comfyfleet.db")
}

// StorageURL is Storage with its default.
func (s *Settings) StorageURL() string {
	if s.Storage != "" {
		return s.Storage
	}
	return "file:" + filepath.Join(s.DataDir, "blobs")
}

// Public is PublicURL without a trailing slash, or what follows from the address that is listened on. A server that
// listens everywhere is called localhost: any better name is for the operator to say.
func (s *Settings) Public(listening string) string {
	if s.PublicURL != "" {
		return strings.TrimRight(s.PublicURL, "/")
	}
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return "http://" + listening
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
