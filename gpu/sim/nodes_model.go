package sim

import (
	"fmt"
	"time"
)

// weights are loaded model files as links carry them: a MODEL with its LoRAs, a CLIP, a VAE.
type weights struct{ files []*model }

func (w weights) String() string {
	if len(w.files) == 0 {
		return "<model>"
	}
	return "<" + w.files[0].name + ">"
}

// with is the same model with one more file, e.g. a LoRA.
func (w weights) with(m *model) weights {
	return weights{append(append([]*model(nil), w.files...), m)}
}

// load reads a model file: it blocks for the load time unless the file is resident. LoRAs take a third.
func (c *call) load(folder, name string) (*model, error) {
	m := newModel(folder, name)
	return m, c.need(m)
}

func (c *call) need(m *model) error {
	if !c.s.memory.need(m) {
		return nil
	}
	if err := c.s.hangOnce("hang-in-load"); err != nil {
		return err
	}
	d := c.s.opts.LoadTime
	if m.size < 1<<30 {
		d /= 3
	}
	return c.s.block(c.s.scaled(d))
}

// loader is a node that loads the files of some fields and gives the same weights on every output.
func loader(folder string, fields ...string) func(*call) (*result, error) {
	return func(c *call) (*result, error) {
		var w weights
		for _, f := range fields {
			m, err := c.load(folder, c.str(f))
			if err != nil {
				return nil, err
			}
			w = w.with(m)
		}
		return give(w, w, w)
	}
}

func (c *call) weights(name string) weights { w, _ := c.in[name].(weights); return w }

func runLora(c *call) (*result, error) {
	m, err := c.load("loras", c.str("lora_name"))
	if err != nil {
		return nil, err
	}
	return give(c.weights("model").with(m), c.weights("clip").with(m))
}

// conditioning is an encoded prompt, with the picture that guides it.
type conditioning struct {
	text  string
	guide pictures
	size  [3]int // width, height, frames of a video; zero for none
	first pictures
	last  pictures
}

func (conditioning) String() string { return "[[tensor, {}]]" }

func (c *call) conditioning(name string) conditioning {
	v, _ := c.in[name].(conditioning)
	return v
}

func runTextEncode(c *call) (*result, error) {
	for _, m := range c.weights("clip").files {
		if err := c.need(m); err != nil {
			return nil, err
		}
	}
	return give(conditioning{text: c.str("text")})
}

// passes gives the inputs of some fields as they are.
func passes(fields ...string) func(*call) (*result, error) {
	return func(c *call) (*result, error) {
		var out []any
		for _, f := range fields {
			out = append(out, c.in[f])
		}
		return give(out...)
	}
}

func runControlNet(c *call) (*result, error) {
	guided := func(name string) conditioning {
		v := c.conditioning(name)
		v.guide = c.pictures("image")
		return v
	}
	if _, ok := c.in["positive"]; ok {
		return give(guided("positive"), guided("negative"))
	}
	return give(guided("conditioning"))
}

// runZeroOut keeps what guides a conditioning and drops its text.
func runZeroOut(c *call) (*result, error) {
	v := c.conditioning("conditioning")
	v.text = ""
	return give(v)
}

func runCombine(c *call) (*result, error) {
	a, b := c.conditioning("conditioning_1"), c.conditioning("conditioning_2")
	a.text = join(a.text, b.text)
	return give(a)
}

// latent is a LATENT: not numbers but what the picture will be made of.
type latent struct {
	width, height, batch int
	frames               int // 0 for still pictures
	scene                scene
	noise                bool // nothing was sampled yet
}

func (l latent) String() string {
	return fmt.Sprintf("{'samples': tensor(%dx16x%dx%d)}", l.batch, l.height/8, l.width/8)
}

func (c *call) latent(name string) latent { v, _ := c.in[name].(latent); return v }

func runEmptyLatent(c *call) (*result, error) {
	l := latent{width: c.int("width"), height: c.int("height"), batch: max(1, c.int("batch_size")), frames: c.int("length"), noise: true}
	return give(l)
}

func runLatentUpscale(c *call) (*result, error) {
	l := c.latent("samples")
	l.width, l.height = int(float64(l.width)*c.float("scale_by")), int(float64(l.height)*c.float("scale_by"))
	return give(l)
}

func runVAEEncode(c *call) (*result, error) {
	in := c.pictures("pixels")
	w, h := in.size()
	return give(latent{width: w, height: h, batch: len(in), scene: scene{source: in[0]}})
}

func runVAEDecode(c *call) (*result, error) {
	for _, m := range c.weights("vae").files {
		if err := c.need(m); err != nil {
			return nil, err
		}
	}
	l := c.latent("samples")
	if err := c.s.block(c.s.scaled(2 * c.s.opts.StepTime)); err != nil {
		return nil, err
	}
	return l.decode()
}

// decode renders a latent.
func (l latent) decode() (*result, error) {
	if l.frames > 0 {
		w, h, n := videoSize(l.width, l.height, l.frames)
		return give(l.scene.frames(w, h, n))
	}
	if err := room(l.width, l.height, l.batch); err != nil {
		return nil, err
	}
	var out pictures
	for i := range l.batch {
		one := l.scene
		one.seed += uint64(i)
		out = append(out, one.draw(l.width, l.height, 1))
	}
	return give(out)
}

// stepTime is what one step takes: a video costs several times a picture.
func (c *call) stepTime(l latent) time.Duration {
	if l.frames > 0 {
		return videoStepFactor * c.s.opts.StepTime
	}
	return c.s.opts.StepTime
}

// videoStepFactor makes the bundled video job take about 20 s at the default speed.
const videoStepFactor = 6

// sample takes the steps from start to end of total and returns the sampled latent.
func (c *call) sample(l latent, model weights, start, end, total int) (latent, error) {
	for _, m := range model.files {
		if err := c.need(m); err != nil {
			return l, err
		}
	}
	l.noise = false
	var preview func(int) []byte
	if c.wantsPreviews() {
		preview = func(done int) []byte { return l.scene.preview(l.width, l.height, float64(done)/float64(total)) }
	}
	return l, c.steps(0, max(0, end-start), max(1, end-start), c.stepTime(l), preview)
}

// begin is the latent that a core sampler starts from.
func (c *call) begin(seed uint64) latent {
	l, positive, negative := c.latent("latent_image"), c.conditioning("positive"), c.conditioning("negative")
	l.scene.prompt, l.scene.seed = join(positive.text, negative.text, l.scene.prompt), seed
	if positive.size[2] > 0 {
		l.frames = positive.size[2]
	}
	if len(positive.guide) > 0 && l.scene.source == nil {
		l.scene.source = positive.guide[0]
	}
	if len(positive.first) > 0 {
		l.scene.source = positive.first[0]
	}
	if len(positive.last) > 0 {
		l.scene.target = positive.last[0]
	}
	return l
}

func runKSampler(c *call) (*result, error) {
	l := c.begin(c.seed("seed"))
	if c.float("denoise") == 1 && c.latent("latent_image").noise == false && l.frames == 0 {
		l.scene.source = nil // fully denoised: nothing of the source is left
	}
	l, err := c.sample(l, c.weights("model"), 0, c.int("steps"), c.int("steps"))
	if err != nil {
		return nil, err
	}
	return give(l)
}

func runKSamplerAdvanced(c *call) (*result, error) {
	total := c.int("steps")
	l, err := c.sample(c.begin(c.seed("noise_seed")), c.weights("model"), min(c.int("start_at_step"), total), min(c.int("end_at_step"), total), total)
	if err != nil {
		return nil, err
	}
	return give(l)
}

func runWanImageToVideo(c *call) (*result, error) {
	size := [3]int{c.int("width"), c.int("height"), c.int("length")}
	with := func(name string) conditioning {
		v := c.conditioning(name)
		v.size, v.first, v.last = size, c.pictures("start_image"), c.pictures("end_image")
		return v
	}
	return give(with("positive"), with("negative"), latent{width: size[0], height: size[1], frames: size[2], batch: c.int("batch_size"), noise: true})
}

func runUpscaleModel(c *call) (*result, error) {
	for _, m := range c.weights("upscale_model").files {
		if err := c.need(m); err != nil {
			return nil, err
		}
	}
	in := c.pictures("image")
	if err := c.steps(0, len(in), len(in), c.s.opts.StepTime, nil); err != nil {
		return nil, err
	}
	return scaleBy(c, in, 4)
}
