package workflows

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// maxGuesses bounds how many parameters Guess proposes: a longer form helps nobody.
const maxGuesses = 40

// role is what a field is for, as far as a guess can tell. Lower ranks come first in the form.
type role struct {
	rank  int
	key   string
	label string
	kind  string // type of the parameter
	group string
}

// candidate is a field with its role.
type candidate struct {
	role
	node *Node
	in   Input
	def  InputDef // zero when unknown
}

// Guess proposes parameters for any graph, the likeliest first: prompts, input media, seeds, size, length, then the
// settings of samplers and LoRAs. It looks at names, at definitions where there are some, and for prompts at which of a
// sampler's inputs they reach. Fields with the same role and value become one parameter. Keys depend on roles and node
// ids only, so that saving the graph again does not rename them.
func Guess(g *Graph, d *Defs) []Param {
	reach := g.Reachable(d)
	positive, negative := g.conditioning()
	var found []candidate
	for _, n := range byID(g.nodes) {
		if _, ok := reach[n.ID]; !ok {
			continue
		}
		for _, in := range n.inputs {
			if in.isArray() || in.Value[0] == '{' || in.Name == prefixField {
				continue
			}
			def, _ := d.input(n.Class, in.Name)
			r, ok := guessRole(n, in, def)
			if !ok {
				continue
			}
			if r.kind == TypeText {
				r = promptRole(r, n, in, positive[n.ID], negative[n.ID])
			}
			found = append(found, candidate{r, n, in, def})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	return merge(found)
}

// byID lists nodes in the order of their ids, numbers first, whatever the order in the file.
func byID(nodes []*Node) []*Node {
	list := slices.Clone(nodes)
	slices.SortStableFunc(list, func(a, b *Node) int {
		x, xerr := strconv.Atoi(a.ID)
		y, yerr := strconv.Atoi(b.ID)
		switch {
		case xerr == nil && yerr == nil:
			return cmp.Compare(x, y)
		case xerr == nil:
			return -1
		case yerr == nil:
			return 1
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return list
}

// conditioning says which nodes lead into a "positive" and which into a "negative" input.
func (g *Graph) conditioning() (positive, negative map[string]bool) {
	var pos, neg []*Node
	for _, n := range g.nodes {
		for _, in := range n.inputs {
			l, ok := in.Link()
			if !ok {
				continue
			}
			from, ok := g.byID[l.Node]
			// A node with both inputs passes both on: what comes out of its second slot is the negative one. Its own
			// inputs are looked at themselves, so that nothing need be followed through it.
			if !ok || hasBoth(from) {
				continue
			}
			switch {
			case strings.HasPrefix(in.Name, "positive"), in.Name == "conditioning" && n.Class != "ConditioningZeroOut":
				pos = append(pos, from)
			case strings.HasPrefix(in.Name, "negative"):
				neg = append(neg, from)
			}
		}
	}
	return g.upstream(pos), g.upstream(neg)
}

func hasBoth(n *Node) bool {
	_, pos := n.Input("positive")
	_, neg := n.Input("negative")
	return pos && neg
}

func (g *Graph) upstream(starts []*Node) map[string]bool {
	ids := map[string]bool{}
	g.walk(starts, func(n *Node) { ids[n.ID] = true })
	return ids
}

// promptRole tells a negative prompt from a positive one: by its name, then its title, then where it leads.
func promptRole(r role, n *Node, in Input, positive, negative bool) role {
	title := strings.ToLower(n.Title)
	switch {
	case strings.Contains(in.Name, "negative"),
		!strings.Contains(in.Name, "positive") && (strings.Contains(title, "negative") || negative && !positive):
		return role{rank: 15, key: "negative_prompt", label: "Negative prompt", kind: TypeText}
	}
	return r
}

// merge makes parameters of candidates, one for those with equal role, value and type.
func merge(found []candidate) []Param {
	var params []Param
	taken := map[string]bool{}
	for _, c := range found {
		same := slices.IndexFunc(params, func(p Param) bool {
			return p.Label == c.label && p.Type == c.kind && string(p.Default) == string(c.in.Value) && c.shared()
		})
		if same >= 0 {
			if len(params[same].Targets) < maxTargets {
				params[same].Targets = append(params[same].Targets, Target{c.node.ID, c.in.Name})
			}
			continue
		}
		if len(params) == maxGuesses {
			continue
		}
		key := c.key
		if taken[key] {
			key = keyOf(c.key + "_" + c.node.ID)
		}
		if taken[key] {
			continue
		}
		taken[key] = true
		params = append(params, c.param(key))
	}
	return nameApart(params, found)
}

// shared reports whether two nodes with the same value surely mean the same thing: both samplers of a chain have one
// seed, but two equal prompts or pictures are a coincidence.
func (c candidate) shared() bool {
	switch c.kind {
	case TypeSeed, TypeInteger, TypeNumber:
		return c.key != "strength"
	}
	return false
}

func (c candidate) param(key string) Param {
	p := Param{Key: key, Label: c.label, Type: c.kind, Group: c.group, Targets: []Target{{c.node.ID, c.in.Name}},
		Default: c.in.Value, Min: c.def.Min, Max: c.def.Max, Step: c.def.Step}
	if c.kind == TypeChoice {
		for _, o := range c.def.Options {
			if s := unquoted(o); s != "" {
				p.Options = append(p.Options, s)
			} else if number(o) != "" {
				p.Options = append(p.Options, string(o))
			}
		}
	}
	if p.Type == TypeSeed && p.Max == "" {
		p.Min, p.Max = "0", "18446744073709551615"
	}
	return p
}

// nameApart puts the node's title before labels that occur more than once.
func nameApart(params []Param, found []candidate) []Param {
	count := map[string]int{}
	for _, p := range params {
		count[p.Label]++
	}
	for i, p := range params {
		if count[p.Label] < 2 {
			continue
		}
		for _, c := range found {
			if c.node.ID == p.Targets[0].Node {
				params[i].Label = cmp.Or(c.node.Title, c.node.Class) + ": " + strings.ToLower(p.Label)
				break
			}
		}
	}
	return params
}

// keyOf makes a parameter key of any text.
func keyOf(s string) string {
	if s == "" || !('a' <= s[0]|0x20 && s[0]|0x20 <= 'z') {
		s = "field_" + s
	}
	key := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, s)
	return key[:min(len(key), 64)]
}

// literalKind is the parameter type of a field without a better guess: by its definition, else by its value.
func literalKind(in Input, def InputDef) string {
	switch def.Type {
	case "INT":
		return TypeInteger
	case "FLOAT":
		return TypeNumber
	case "BOOLEAN":
		return TypeBoolean
	case "COMBO":
		if len(def.Options) > 0 {
			return TypeChoice
		}
		return TypeString
	}
	var v any
	if json.Unmarshal(in.Value, &v) != nil {
		return TypeString
	}
	switch v.(type) {
	case float64:
		if isInteger(string(in.Value)) && def.Type == "" && !looksFractional(in.Name) {
			return TypeInteger
		}
		return TypeNumber
	case bool:
		return TypeBoolean
	}
	return TypeString
}

// looksFractional knows settings that happen to be whole in this graph, such as a cfg of 7.
func looksFractional(name string) bool {
	for _, part := range []string{"cfg", "guidance", "strength", "denoise", "shift", "weight", "fps", "rate", "percent", "scale", "factor"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
