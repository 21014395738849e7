package sim

// testClasses are the Sim* nodes of Options.TestNodes: what a test needs to make one job misbehave.
func testClasses() []*Class {
	sim := func(name, about string, required []Input, outputs []Output, output bool) *Class {
		return &Class{Name: name, Title: name, About: about, Category: "simulator", Module: "comfyfleet.sim", Required: required,
			Outputs: outputs, OutputNode: output}
	}
	seconds := float("seconds", 1, 0, 86400, 0.001)
	return []*Class{
		sim("SimSteps", "Takes steps, each a progress event and, if asked, a preview.",
			[]Input{link("image", image), whole("steps", 6, 1, 100000), float("delay", 0.05, 0, 3600, 0.001), boolean("preview", true),
				seed("seed")}, outs("IMAGE"), false),
		sim("SimSleep", "Blocks without any progress call, so that an interrupt waits for its end.",
			[]Input{link("image", image), seconds, seed("seed")}, outs("IMAGE"), false),
		sim("SimRaise", "Raises a Python exception of that type. times limits how often in this process, 0 for always.",
			[]Input{link("image", image), str("kind", "ValueError"), text("message"), whole("times", 0, 0, 1000000)}, outs("IMAGE"), true),
		sim("SimOOM", "Runs out of memory, times limits how often in this process, 0 for always.",
			[]Input{link("image", image), whole("times", 1, 0, 1000000)}, outs("IMAGE"), true),
		sim("SimCudaError", "Breaks the CUDA context: this and every later prompt fails until the process is restarted.",
			[]Input{link("image", image)}, outs("IMAGE"), true),
		sim("SimCrash", "Ends the process. once lets the next process of the same base directory live.",
			[]Input{link("image", image), list("kind", "exit", "kill", "abort", "segv"), boolean("once", false)}, outs("IMAGE"), true),
		sim("SimHang", "Never ends and hears no interrupt. once lets the next process of the same base directory live.",
			[]Input{link("image", image), boolean("once", false)}, outs("IMAGE"), true),
		sim("SimZombie", "Kills the worker thread; HTTP stays healthy.",
			[]Input{link("image", image)}, outs("IMAGE"), true),
		sim("SimExpand", "Expands into nodes of its own, whose ids are like 2.0.0.1.",
			[]Input{link("image", image), whole("steps", 2, 1, 100000), float("delay", 0.05, 0, 3600, 0.001)}, outs("IMAGE"), false),
		sim("SimBlocker", "Blocks what follows: with a message execution_error is sent and the run still succeeds.",
			[]Input{link("image", image), str("message", "")}, outs("IMAGE"), false),
		sim("SimProgressText", "Sends a binary text event.",
			[]Input{link("image", image), str("text", "half way there")}, outs("IMAGE"), false),
		sim("SimList", "A list of pictures that later nodes take one by one.",
			[]Input{whole("count", 3, 1, 1000)}, outs("IMAGE"), false),
		sim("SimOutput", "Writes files, or text, under any key of the ui.",
			[]Input{list("kind", "gifs", "videos", "images", "audio", "3d", "files", "text"), whole("count", 1, 1, 1000), whole("bytes", 1000, 0, 1<<40),
				str("filename_prefix", "sim/output"), seed("seed")}, nil, true),
		sim("SimPoison", "Returns a ui that is not JSON: the process dies with a client connected, else /history answers 500.",
			[]Input{link("image", image)}, nil, true),
	}
}
