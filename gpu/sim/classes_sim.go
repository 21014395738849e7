package sim

// testClasses are the Sim* nodes of Options.TestNodes: what a test needs to make one job misbehave.
func testClasses() []*Class {
	sim := func(name string, run func(*call) (*result, error), about string, required []Input, outputs []Output, output bool) *Class {
		return &Class{Name: name, run: run, Title: name, About: about, Category: "simulator", Module: "comfyfleet.sim", Required: required,
			Outputs: outputs, OutputNode: output}
	}
	seconds := float("seconds", 1, 0, 86400, 0.001)
	return []*Class{
		sim("SimSteps", runSimSteps, "Takes steps, each a progress event and, if asked, a preview.",
			[]Input{link("image", picture), whole("steps", 6, 1, 100000), float("delay", 0.05, 0, 3600, 0.001), boolean("preview", true),
				seed("seed")}, outs("IMAGE"), false),
		sim("SimSleep", runSimSleep, "Blocks without any progress call, so that an interrupt waits for its end.",
			[]Input{link("image", picture), seconds, seed("seed")}, outs("IMAGE"), false),
		sim("SimRaise", runSimRaise, "Raises a Python exception of that type. times limits how often in this process, 0 for always.",
			[]Input{link("image", picture), str("kind", "ValueError"), text("message"), whole("times", 0, 0, 1000000)}, outs("IMAGE"), true),
		sim("SimOOM", runSimOOM, "Runs out of memory, times limits how often in this process, 0 for always.",
			[]Input{link("image", picture), whole("times", 1, 0, 1000000)}, outs("IMAGE"), true),
		sim("SimCudaError", runSimCudaError, "Breaks the CUDA context: this and every later prompt fails until the process is restarted.",
			[]Input{link("image", picture)}, outs("IMAGE"), true),
		sim("SimCrash", runSimCrash, "Ends the process. once lets the next process of the same base directory live.",
			[]Input{link("image", picture), choice("kind", "exit", "kill", "abort", "segv"), boolean("once", false)}, outs("IMAGE"), true),
		sim("SimHang", runSimHang, "Never ends and hears no interrupt. once lets the next process of the same base directory live.",
			[]Input{link("image", picture), boolean("once", false)}, outs("IMAGE"), true),
		sim("SimZombie", runSimZombie, "Kills the worker thread; HTTP stays healthy.",
			[]Input{link("image", picture)}, outs("IMAGE"), true),
		sim("SimExpand", runSimExpand, "Expands into nodes of its own, whose ids are like 2.0.0.1.",
			[]Input{link("image", picture), whole("steps", 2, 1, 100000), float("delay", 0.05, 0, 3600, 0.001)}, outs("IMAGE"), false),
		sim("SimBlocker", runSimBlocker, "Blocks what follows: with a message execution_error is sent and the run still succeeds.",
			[]Input{link("image", picture), str("message", "")}, outs("IMAGE"), false),
		sim("SimProgressText", runSimText, "Sends a binary text event.",
			[]Input{link("image", picture), str("text", "half way there")}, outs("IMAGE"), false),
		{Name: "SimList", run: runSimList, Title: "SimList", Category: "simulator", Module: "comfyfleet.sim", ListOutput: true,
			About: "A list of pictures that later nodes take one by one.", Required: []Input{whole("count", 3, 1, 1000)}, Outputs: outs("IMAGE")},
		sim("SimOutput", runSimOutput, "Writes files, or text, under any key of the ui.",
			[]Input{choice("kind", "gifs", "videos", "images", "audio", "3d", "files", "text"), whole("count", 1, 1, 1000), whole("bytes", 1000, 0, 1<<40),
				str("filename_prefix", "sim/output"), seed("seed")}, nil, true),
		sim("SimPoison", runSimPoison, "Returns a ui that is not JSON: the process dies with a client connected, else /history answers 500.",
			[]Input{link("image", picture)}, nil, true),
	}
}
