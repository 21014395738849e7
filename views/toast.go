package views

func toastState(ok bool) string {
	if ok {
		return "succeeded"
	}
	return "failed"
}
