package sim

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cudaBroken says whether an earlier error has broken the context for good.
func (s *Server) cudaBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.poisoned
}

func (s *Server) breakCuda() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poisoned = true
	return cudaError()
}

// stepFault lets the process-wide faults act at this step.
func (s *Server) stepFault() error {
	switch name, variant := s.faults.atStep(); name {
	case "crash-at-step":
		return s.crash(variant)
	case "hang-at-step":
		return s.hang()
	case "deaf-at-step":
		return s.deafen()
	case "oom-at-step":
		return outOfMemory()
	case "cuda-error":
		return s.breakCuda()
	}
	return nil
}

// crash ends the process. Where Die returns, which it does in tests only, the worker ends.
func (s *Server) crash(how string) error {
	if how == "" {
		how = "exit"
	}
	s.opts.Die(how, 3)
	return errThreadDied
}

// hang blocks until the server ends.
func (s *Server) hang() error {
	<-s.ctx.Done()
	return errClosed
}

// hangOnce is hang for the first who comes with that fault in the base directory.
func (s *Server) hangOnce(fault string) error {
	if due, err := s.faultOnce(fault); err != nil || !due {
		return err
	}
	return s.hang()
}

// deafen closes the doors of a process that goes on, and hangs.
func (s *Server) deafen() error {
	if due, err := s.faultOnce("deaf-at-step"); err != nil || !due {
		return err
	}
	close(s.deaf)
	return s.hang()
}

func (c *call) image() (*result, error) { return give(c.in["image"]) }

func runSimSteps(c *call) (*result, error) {
	n := c.int("steps")
	sc := scene{prompt: "steps", seed: c.seed("seed")}
	var preview func(int) []byte
	if c.flag("preview") {
		preview = func(done int) []byte { return sc.preview(256, 192, float64(done)/float64(n)) }
	}
	if err := c.steps(0, n, n, time.Duration(c.float("delay")*float64(time.Second)), preview); err != nil {
		return nil, err
	}
	return c.image()
}

func runSimSleep(c *call) (*result, error) {
	c.s.log.info("SimSleep blocks") // from here on it hears nothing; before, an interrupt would have ended its prompt
	if err := c.sleep(); err != nil {
		return nil, err
	}
	return c.image()
}

// runSimWait looks for its file again and again, since the file may come over HTTP or from another process.
func runSimWait(c *call) (*result, error) {
	c.s.log.info("SimWait blocks")
	for file := cmp.Or(c.str("file"), "go"); c.s.inputFile(file, "input") == ""; {
		if err := c.s.block(2 * time.Millisecond); err != nil {
			return nil, err
		}
	}
	return c.image()
}

// sleep blocks for the node's seconds.
func (c *call) sleep() error {
	return c.s.block(c.s.scaled(time.Duration(c.float("seconds") * float64(time.Second))))
}

func runSimRaise(c *call) (*result, error) {
	if !c.s.limited(c.node.class+c.str("key"), c.int("times")) {
		return c.image()
	}
	switch kind := c.str("kind"); kind {
	case "cuda_oom":
		return nil, &raise{kind: "torch.OutOfMemoryError", text: c.message(), memory: true}
	case "SystemExit", "KeyboardInterrupt":
		return nil, errThreadDied
	default:
		return nil, &raise{kind: kind, text: c.message()}
	}
}

// message is the text of an exception.
func (c *call) message() string { return cmp.Or(c.str("message"), "boom") }

func runSimOOM(c *call) (*result, error) {
	times := 1
	if _, given := c.in["times"]; given {
		times = c.int("times")
	}
	limited := c.s.limited
	if c.flag("lasting") {
		limited = c.s.limitedForGood
	}
	if limited(c.node.class+c.str("key"), times) {
		return nil, outOfMemory()
	}
	return c.image()
}

func runSimCudaError(c *call) (*result, error) { return nil, c.s.breakCuda() }

func runSimZombie(*call) (*result, error) { return nil, errThreadDied }

// due says whether a once node acts.
func (c *call) due() (bool, error) {
	if !c.flag("once") {
		return true, nil
	}
	return c.s.once(c.node.class + "-" + c.str("key"))
}

func runSimCrash(c *call) (*result, error) {
	due, err := c.due()
	if err != nil {
		return nil, err
	}
	if !due {
		return c.image()
	}
	return nil, c.s.crash(c.str("kind"))
}

func runSimHang(c *call) (*result, error) {
	due, err := c.due()
	if err != nil {
		return nil, err
	}
	if !due {
		return c.image()
	}
	return nil, c.s.hang()
}

// runSimExpand becomes two step nodes and a preview.
func runSimExpand(c *call) (*result, error) {
	from, ok := c.node.input("image")
	if !ok || from.link == nil {
		return nil, raisef("ValueError", "image must be linked")
	}
	outer := inputValue{name: "image", link: &linkRef{node: from.link.node, slot: from.link.slot}}
	steps := func(id string, in inputValue) *node {
		return part(id, "SimSteps", in, valued("steps", c.int("steps")), valued("delay", c.float("delay")), valued("preview", false), valued("seed", 0))
	}
	return &result{expand: &expansion{
		nodes:   []*node{steps("1", outer), steps("2", within("image", "1", 0)), part("3", "PreviewImage", within("images", "2", 0))},
		outputs: []linkRef{{node: "2"}},
		run:     []string{"3"},
	}}, nil
}

func runSimBlocker(c *call) (*result, error) { return give(blocker{c.str("message")}) }

func runSimText(c *call) (*result, error) {
	c.s.hub.send(c.s.ctx, event{binary: textFrame(c.node.id, c.str("text"))})
	return c.image()
}

func runSimList(c *call) (*result, error) {
	var list []any
	for range c.int("count") {
		list = append(list, c.in["image"])
	}
	return give(list)
}

// runSimOutput writes files of a given size under any ui key.
func runSimOutput(c *call) (*result, error) {
	if err := c.sleep(); err != nil {
		return nil, err
	}
	kind := c.str("kind")
	if kind == "text" {
		var texts []any
		for i := range c.int("count") {
			texts = append(texts, fmt.Sprintf("text %d of seed %d", i+1, c.seed("seed")))
		}
		return &result{ui: showText(texts...)}, nil
	}
	p, err := c.s.savePlace(c.s.dirs.output, c.str("filename_prefix"), 0, 0)
	if err != nil {
		return nil, err
	}
	var items []any
	for i := range c.int("count") {
		file := fmt.Sprintf("%s_%05d_.%s", p.name, p.counter+i, cmp.Or(c.str("extension"), outputExtension(kind)))
		path := filepath.Join(p.dir, file)
		if err := c.s.writeFile(path, func(f *os.File) error { return f.Truncate(int64(c.int("bytes"))) }); err != nil {
			return nil, err
		}
		item := savedFile(file, p.subfolder, "output")
		if kind == "gifs" {
			still := strings.TrimSuffix(file, ".mp4") + ".png"
			item = append(item, field{"format", "video/h264-mp4"}, field{"frame_rate", 24.0}, field{"workflow", still}, field{"fullpath", path})
		}
		items = append(items, item)
	}
	return &result{ui: ordered{{kind, items}}}, nil
}

func outputExtension(kind string) string {
	switch kind {
	case "audio":
		return "flac"
	case "3d":
		return "glb"
	case "files":
		return "bin"
	}
	return "mp4"
}

func runSimPoison(*call) (*result, error) {
	return &result{ui: ordered{{"poison", []any{poison{}}}}}, nil
}
