package views

// GPUs is the page of all workers.
type GPUs struct {
	Shell
	Facts []string // "4 × NVIDIA L40S", "ComfyUI 0.33.0"
	Verbs []Verb
	Cards []GPUCard
	// NoTelemetry says why the cards show no heat and power, "" when they do.
	NoTelemetry string
	Log         []LogLine
	Empty       *Empty
}

// GPUCard is one worker.
type GPUCard struct {
	Name   string // the worker's stable name
	Label  string // "GPU 0"
	URL    string
	Facts  string // "PCI 3b:00, GPU-5c1f…e0a2"
	State  State
	Job    *CardJob
	Notice *CardNotice // instead of a job: why it is down, what happens next
	Meters []Meter
	Memory *Memory
	Held   []HeldModel
	Hour   Trace
	Foot   string
	Verbs  []Verb // the first ones stand in the footer
	More   []Verb
}

// CardJob is what a worker runs.
type CardJob struct {
	Name, Tenant, Short, URL string
	For                      Time
	Of                       string // " of about 3:02"
	Progress                 Progress
	Sub                      *Progress
	Node                     string
}

// CardNotice is one sentence in place of a job.
type CardNotice struct {
	State string
	Bold  string
	Until *Time // "0:41", after Bold
	Text  string
}

// Meter is one reading.
type Meter struct {
	Label    string
	Quantity Quantity
}

// Memory is a card's memory as a strip.
type Memory struct {
	Used, Total string
	Trace       Trace
}

// HeldModel is one model file that a worker probably holds.
type HeldModel struct {
	File, Size, Used string
	Rest             bool // stands for the files that are not named
}

// Worker is one worker's page.
type Worker struct {
	Shell
	Card     GPUCard // without verbs: they stand in the head
	Verbs    []Verb
	Process  []KV
	Engine   []KV
	Exits    []Exit
	NoExits  string
	Log      []LogLine
	LogTitle string
	Wishes   string // what outlives a restart: "Drained by an operator."
}

// Exit is how a process of the worker ended.
type Exit struct {
	At     Time
	PID    string
	How    string // "exit 137", "SIGKILL"
	State  string
	Why    string
	Uptime string
	JobURL string
	Job    string
	Log    []LogLine
	LogID  string
}
