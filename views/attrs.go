package views

import "github.com/a-h/templ"

// oob marks an element of the stream: it replaces the one with its id.
func oob(live bool) templ.Attributes {
	if !live {
		return nil
	}
	return templ.Attributes{"hx-swap-oob": "morph"}
}

func themeAttr(theme string) templ.Attributes {
	if theme != "dark" && theme != "light" {
		return nil
	}
	return templ.Attributes{"data-theme": theme}
}

// current marks where the reader is.
func current(yes bool) templ.Attributes {
	if !yes {
		return nil
	}
	return templ.Attributes{"aria-current": "page"}
}

// toned sets a state's tones on an element, or none.
func toned(state string, yes bool) templ.Attributes {
	if !yes {
		return nil
	}
	return templ.Attributes{"data-state": state}
}

func invalid(f Field) templ.Attributes {
	if f.Problem == "" {
		return nil
	}
	return templ.Attributes{"aria-invalid": "true", "aria-describedby": f.ID + "-err"}
}
