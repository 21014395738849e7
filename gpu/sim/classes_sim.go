package sim

// testClasses are the Sim* nodes of Options.TestNodes: what a test needs to make one job misbehave.
func testClasses() []*Class {
	sim := func(name string, run func(*call) (*result, error), about string, required, optional []Input, outputs []Output, output bool) *Class {
		return &Class{Name: name, run: run, Title: name, About: about, Category: "simulator", Module: "comfyfleet.sim",
			Required: required, Optional: optional, Outputs: outputs, OutputNode: output}
	}
	picture := link("image", picture)
	// key tells jobs apart: what times and once count, they count per class and key.
	times := func(def int) []Input { return []Input{whole("times", def, 0, 1000000), str("key", "")} }
	once := []Input{boolean("once", false), str("key", "")}
	list := sim("SimList", runSimList, "The picture several times, as a list that later nodes take one by one.",
		[]Input{picture, whole("count", 3, 1, 1000)}, nil, outs("IMAGE"), false)
	list.ListOutput = true
	return []*Class{
		sim("SimSteps", runSimSteps, "Takes steps, each a progress event and, if asked, a preview.",
			[]Input{picture, whole("steps", 6, 1, 100000), float("delay", 0.05, 0, 3600, 0.001), boolean("preview", true),
				seed("seed")}, nil, outs("IMAGE"), false),
		sim("SimSleep", runSimSleep, "Blocks without any progress call, so that an interrupt waits for its end.",
			[]Input{picture, float("seconds", 1, 0, 86400, 0.001), seed("seed")}, nil, outs("IMAGE"), false),
		sim("SimWait", runSimWait, "Blocks without any progress call until the input directory has that file: a test decides when.",
			nil, []Input{str("file", "go"), picture}, outs("IMAGE"), true),
		sim("SimRaise", runSimRaise, "Raises a Python exception of that type. times limits how often in this process, 0 for always.",
			[]Input{picture, str("kind", "ValueError")}, append(times(0), textDefault("message", "boom")), outs("IMAGE"), true),
		sim("SimOOM", runSimOOM, "Runs out of memory, times (1) limits how often in this process, or with lasting in all of the same base directory; 0 for always.",
			[]Input{picture}, append(times(1), boolean("lasting", false)), outs("IMAGE"), true),
		sim("SimCudaError", runSimCudaError, "Breaks the CUDA context: this and every later prompt fails until the process is restarted.",
			[]Input{picture}, nil, outs("IMAGE"), true),
		sim("SimCrash", runSimCrash, "Ends the process. once lets the next process of the same base directory live.",
			[]Input{picture, choice("kind", "exit", "kill", "abort", "segv")}, once, outs("IMAGE"), true),
		sim("SimHang", runSimHang, "Never ends and hears no interrupt. once lets the next process of the same base directory live.",
			[]Input{picture}, once, outs("IMAGE"), true),
		sim("SimZombie", runSimZombie, "Kills the worker thread; HTTP stays healthy.",
			[]Input{picture}, nil, outs("IMAGE"), true),
		sim("SimExpand", runSimExpand, "Expands into nodes of its own, whose ids are like 2.0.0.1.",
			[]Input{picture, whole("steps", 2, 1, 100000), float("delay", 0.05, 0, 3600, 0.001)}, nil, outs("IMAGE"), false),
		sim("SimBlocker", runSimBlocker, "Blocks what follows: with a message execution_error is sent and the run still succeeds.",
			[]Input{picture, str("message", "")}, nil, outs("IMAGE"), false),
		sim("SimProgressText", runSimText, "Sends a binary text event.",
			[]Input{picture, str("text", "half way there")}, nil, outs("IMAGE"), true),
		list,
		sim("SimOutput", runSimOutput, "Writes files, or text, under any key of the ui, after blocking for some seconds.",
			[]Input{choice("kind", "gifs", "videos", "images", "audio", "3d", "files", "text"), whole("count", 1, 1, 1000), whole("bytes", 1000, 0, 1<<40),
				str("filename_prefix", "sim/output"), seed("seed")}, []Input{str("extension", ""), float("seconds", 0, 0, 86400, 0.001)}, nil, true),
		sim("SimPoison", runSimPoison, "Returns a ui that is not JSON: the process dies with a client connected, else /history answers 500.",
			[]Input{picture}, nil, nil, true),
	}
}
