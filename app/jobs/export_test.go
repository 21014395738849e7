package jobs

// Lost is the error of an output that the disk refused.
func Lost(node string, err error) error { return lostError{node, err} }
