package config_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/config"
)

// load merges flags, environment and a YAML text the way the command line does.
func load(t *testing.T, yaml string, args ...string) (*config.Settings, error) {
	t.Helper()
	file := map[string]any{}
	if yaml != "" {
		var err error
		if file, err = config.ReadFile(write(t, yaml)); err != nil {
			return nil, err
		}
	}
	if err := config.Check(file, os.LookupEnv); err != nil {
		return nil, err
	}
	var cli struct {
		config.Settings `embed:""`
	}
	parser, err := kong.New(&cli, kong.Resolvers(config.Resolver(file)), kong.Exit(func(int) { t.Error("kong wanted to exit") }))
	require.NoError(t, err)
	chosen, err := parser.Parse(args)
	if err != nil {
		return nil, err
	}
	cli.NoteSources(chosen, file, os.LookupEnv)
	return &cli.Settings, cli.Validate()
}

func write(t *testing.T, yaml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.yaml")
	require.NoError(t, os.WriteFile(path, []byte(yaml), 0o600))
	return path
}

// value is what Print shows of one setting.
func value(t *testing.T, s *config.Settings, name string) config.Value {
	t.Helper()
	for _, v := range s.Values() {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no setting %s", name)
	return config.Value{}
}

func TestDefaultsAreValidAndComplete(t *testing.T) {
	s, err := load(t, "")
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:8080", s.Listen)
	assert.Equal(t, "auto", s.Workers)
	assert.Equal(t, 100*time.Second, s.ScaleDownAfter)
	assert.Equal(t, 10*time.Second, s.ShutdownGrace)
	assert.Equal(t, 168*time.Hour, s.Retention)
	assert.Equal(t, []int{100_000, 20_000, 0}, []int{s.MaxQueued, s.MaxQueuedPerTenant, s.MinReady})
	assert.Equal(t, []config.Rate{10, 120, 30}, []config.Rate{s.RateSubmit, s.RateStatus, s.RateManage})
	assert.Equal(t, config.Bytes(2<<30), s.MinFreeDisk)
	assert.Equal(t, "sqlite:"+s.DataDir+"/comfyfleet.db", s.DatabaseURL())
	assert.Equal(t, "file:"+s.DataDir+"/blobs", s.StorageURL())
}

func TestEverySettingHasAVariableAndHelp(t *testing.T) {
	envs := map[string]bool{}
	s, err := load(t, "")
	require.NoError(t, err)
	values := s.Values()
	require.NotEmpty(t, values)
	for _, v := range values {
		assert.Equal(t, "COMFYFLEET_"+strings.ToUpper(strings.ReplaceAll(v.Name, "-", "_")), v.Env)
		assert.False(t, envs[v.Env], v.Env)
		envs[v.Env] = true
	}
	for f := range reflect.TypeFor[config.Settings]().Fields() {
		if f.IsExported() {
			assert.NotEmpty(t, f.Tag.Get("help"), f.Name)
		}
	}
}

func TestFlagsBeatTheEnvironmentWhichBeatsTheFile(t *testing.T) {
	yaml := "listen: 127.0.0.1:1\nmin-ready: 1\nmax_queued: 7\nretention: 1h\n"
	t.Setenv("COMFYFLEET_LISTEN", "127.0.0.1:2")
	t.Setenv("COMFYFLEET_MIN_READY", "2")
	s, err := load(t, yaml, "--listen=127.0.0.1:3")
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:3", s.Listen)
	assert.Equal(t, 2, s.MinReady)
	assert.Equal(t, 7, s.MaxQueued)
	assert.Equal(t, time.Hour, s.Retention)
	assert.Equal(t, 20_000, s.MaxQueuedPerTenant)
	for name, source := range map[string]string{
		"listen": "flag", "min-ready": "environment", "max-queued": "file", "retention": "file", "max-queued-per-tenant": "default",
	} {
		assert.Equal(t, source, value(t, s, name).Source, name)
	}
}

func TestVariableSetToNothingCountsAsNotSet(t *testing.T) {
	t.Setenv("COMFYFLEET_LISTEN", "")
	t.Setenv("COMFYFLEET_MIN_READY", "")
	t.Setenv("COMFYFLEET_RATE_SUBMIT", "")
	s, err := load(t, "min-ready: 3\n")
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:8080", s.Listen)
	assert.Equal(t, 3, s.MinReady)
	assert.Equal(t, config.Rate(10), s.RateSubmit)
	assert.Equal(t, "default", value(t, s, "listen").Source)
	assert.Equal(t, "file", value(t, s, "min-ready").Source)
}

func TestFileTakesTextsAsTheyAreWritten(t *testing.T) {
	s, err := load(t, `
# a comment
bootstrap-key: 123456789012345678901234567890
rate-submit: off
rate_status: 5/min
metrics-token:
outbound-allow: [10.0.0.0/8, "fd00::/8"]
trusted-proxies:
  - 127.0.0.1/32
workers: ["managed:0,1", "sim:2"]
min-free-disk: 500MiB
comfyui-args: --fast --use-sage-attention
`)
	require.NoError(t, err)
	assert.Equal(t, "123456789012345678901234567890", s.BootstrapKey)
	assert.Equal(t, []config.Rate{0, 5}, []config.Rate{s.RateSubmit, s.RateStatus})
	assert.Empty(t, s.MetricsToken)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, s.OutboundAllow)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, s.TrustedProxies)
	assert.Equal(t, "managed:0,1;sim:2", s.Workers)
	assert.Equal(t, config.Bytes(500<<20), s.MinFreeDisk)
	assert.Equal(t, "--fast --use-sage-attention", s.ComfyUIArgs)
	assert.Equal(t, "10.0.0.0/8,fd00::/8", value(t, s, "outbound-allow").Value)
	assert.Equal(t, "off", value(t, s, "rate-submit").Value)
}

func TestFileWithMistakesNamesThemAllWithTheirLines(t *testing.T) {
	_, err := load(t, "listen: 127.0.0.1:1\nlissten: x\nworkers:\n  a: b\nmin_ready: [1, 2]\nmax-queued: 1\nmax_queued: 2\nconfig: x\n")
	for _, want := range []string{`line 2: no setting "lissten"`, "line 4: workers: takes a plain value", "line 5: min-ready: takes one value", "max-queued is set twice", `no setting "config"`} {
		assert.ErrorContains(t, err, want)
	}
	for _, yaml := range []string{"listen: a\nlisten: b\n", "- a\n- b\n", "listen: [a\n"} {
		_, err := load(t, yaml)
		assert.Error(t, err, yaml)
	}
	_, err = config.ReadFile(filepath.Join(t.TempDir(), "absent.yaml"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = config.ReadFile(write(t, strings.Repeat("# padding\n", 200_000)))
	assert.ErrorContains(t, err, "larger than")
}

func TestAllProblemsAreNamedAtOnceWithWhereTheyCameFrom(t *testing.T) {
	t.Setenv("COMFYFLEET_MIN_READY", "many")
	t.Setenv("COMFYFLEET_OUTBOUND_ALLOW", "10.0.0.1")
	t.Setenv("COMFYFLEET_ON_SHUTDOWN", "explode")
	t.Setenv("COMFYFLEET_LISTEN", "8080")
	_, err := load(t, "retention: soon\nrate-manage: 3 per day\nmin-free-disk: lots\nmax-queued: -1\n")
	for _, want := range []string{
		`min-ready (from COMFYFLEET_MIN_READY): "many" is no whole number`,
		"outbound-allow (from COMFYFLEET_OUTBOUND_ALLOW): \"10.0.0.1\" is no network",
		`on-shutdown (from COMFYFLEET_ON_SHUTDOWN): "explode" is none of stop, keep`,
		`retention (from config file): "soon" is no length of time`,
		`rate-manage (from config file): "3 per day" is no rate`,
		`min-free-disk (from config file): "lots" is no size`,
		`listen: "8080" is no address`,
		"max-queued: must be at least 1",
	} {
		assert.ErrorContains(t, err, want)
	}
	assert.Equal(t, 8, strings.Count(err.Error(), "\n")+1, "each once: %v", err)
}

func TestValidateRefusesWhatCannotWork(t *testing.T) {
	for args, want := range map[string]string{
		"--listen=nonsense":                            "listen: ",
		"--listen=127.0.0.1:http":                      "listen: ",
		"--listen=127.0.0.1:70000":                     "listen: ",
		"--public-url=example.com":                     "public-url: ",
		"--public-url=ftp://example.com":               "public-url: ",
		"--public-url=https://example.com/?a=b":        "public-url: ",
		"--database-url=postgres://u:pw@h/db":          "database-url: ",
		"--database-url=sqlite:":                       "database-url: ",
		"--storage-url=s3://bucket":                    "storage-url: ",
		"--workers= ":                                  "workers: ",
		"--min-ready=-1":                               "min-ready: ",
		"--max-queued-per-tenant=0":                    "max-queued-per-tenant: ",
		"--stall-after=0s":                             "stall-after: ",
		"--retention=-1h":                              "retention: ",
		"--bootstrap-key=short":                        "bootstrap-key: ",
		"--bootstrap-key=" + strings.Repeat("k", 513):  "bootstrap-key: ",
		"--bootstrap-key=ends with a space, sadly ":    "bootstrap-key: ",
		"--bootstrap-key=contains an ümlaut somewhere": "bootstrap-key: ",
		"--admin-email=nobody":                         "admin-email: ",
		"--admin-password=long enough":                 "admin-email: is required",
	} {
		_, err := load(t, "", args)
		assert.ErrorContains(t, err, want, args)
	}
	_, err := load(t, "", "--admin-password=short", "--admin-email=a@b.example")
	assert.ErrorContains(t, err, "admin-password: ")
	assert.NotContains(t, err.Error(), "short")
	_, err = load(t, "", "--listen=:0", "--public-url=https://example.com/fleet/", "--admin-email=a@b.example", "--admin-password=long enough", "--bootstrap-key=twenty-four characters!!")
	assert.NoError(t, err)
}

func TestPrintShowsNoSecret(t *testing.T) {
	t.Setenv("COMFYFLEET_METRICS_TOKEN", "sesame-metrics")
	s, err := load(t, "", "--bootstrap-key=sesame-sesame-sesame-sesame", "--admin-password=sesame-password", "--admin-email=a@b.example")
	require.NoError(t, err)
	s.Database = "postgres://user:sesame-db@host/db"
	var table, raw bytes.Buffer
	require.NoError(t, s.Print(&table, false))
	require.NoError(t, s.Print(&raw, true))
	for _, out := range []string{table.String(), raw.String()} {
		assert.NotContains(t, out, "sesame")
		assert.Contains(t, out, "a@b.example")
	}
	assert.Regexp(t, `bootstrap-key +\(set\) +flag +COMFYFLEET_BOOTSTRAP_KEY`, table.String())
	assert.Regexp(t, `metrics-token +\(set\) +environment`, table.String())
	assert.Regexp(t, `comfyui-dir +- +default`, table.String())
	var list []config.Value
	require.NoError(t, json.Unmarshal(raw.Bytes(), &list))
	assert.Equal(t, s.Values(), list)
}

func TestPublicFollowsFromWhatIsListenedOn(t *testing.T) {
	for listening, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080", "0.0.0.0:80": "http://localhost:80", "[::]:8080": "http://localhost:8080",
		":9000": "http://localhost:9000", "[2001:db8::1]:80": "http://[2001:db8::1]:80", "gpu-1:8080": "http://gpu-1:8080",
	} {
		assert.Equal(t, want, (&config.Settings{}).Public(listening), listening)
	}
	assert.Equal(t, "https://fleet.example", (&config.Settings{PublicURL: "https://fleet.example/"}).Public("127.0.0.1:1"))
}

func TestRatesAndSizesReadBackAsWritten(t *testing.T) {
	for _, text := range []string{"10/min", "1/min", "off"} {
		var r config.Rate
		require.NoError(t, r.UnmarshalText([]byte(text)))
		assert.Equal(t, text, r.String())
	}
	for _, bad := range []string{"", "10", "0/min", "-1/min", "10/s", "ten/min", "on"} {
		assert.Error(t, new(config.Rate).UnmarshalText([]byte(bad)), bad)
	}
	for _, text := range []string{"0B", "1B", "500MiB", "2GiB", "3TiB", "1025KiB"} {
		var b config.Bytes
		require.NoError(t, b.UnmarshalText([]byte(text)))
		assert.Equal(t, text, b.String())
	}
	for _, bad := range []string{"", "GiB", "-1", "1.5GiB", "9999999999TiB", "2GB!"} {
		assert.Error(t, new(config.Bytes).UnmarshalText([]byte(bad)), bad)
	}
}
