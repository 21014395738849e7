package workflows

import (
	"encoding/json"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

const bound = `{
  "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
  "2": {"class_type": "KSampler", "inputs": {"seed": 5, "cfg": 7.0, "sampler_name": "euler", "on": true}},
  "3": {"class_type": "KSampler", "inputs": {"seed": 5, "tile": 16, "text": "hello", "from": ["1", 0]}}}`

func boundParams() []Param {
	return []Param{
		{Key: "image", Type: TypeImage, Targets: []Target{{"1", "image"}}},
		{Key: "seed", Type: TypeSeed, Min: "0", Max: "18446744073709551615", Targets: []Target{{"2", "seed"}, {"3", "seed"}}},
		{Key: "cfg", Type: TypeNumber, Min: "1", Max: "20", Targets: []Target{{"2", "cfg"}}},
		{Key: "sampler", Type: TypeChoice, Options: []string{"euler", "lcm"}, Targets: []Target{{"2", "sampler_name"}}},
		{Key: "tile", Type: TypeChoice, Options: []string{"16", "24"}, Targets: []Target{{"3", "tile"}}},
		{Key: "on", Type: TypeBoolean, Targets: []Target{{"2", "on"}}},
		{Key: "text", Type: TypeText, Targets: []Target{{"3", "text"}}},
	}
}

func values(t *testing.T, raw string) map[string]json.RawMessage {
	t.Helper()
	var v map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(raw), &v))
	return v
}

func TestBindSetsEveryTarget(t *testing.T) {
	g := parse(t, bound)
	require.NoError(t, CheckParams(g, boundParams()))
	media, err := Bind(g, boundParams(), values(t, `{"image": "mine.png", "seed": 18446744073709551615, "cfg": "3.5", "sampler": "lcm", "tile": "24", "on": "off", "text": "line\nline"}`))
	require.NoError(t, err)
	require.Equal(t, []string{"mine.png"}, media)
	require.JSONEq(t, `{"1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
		"2": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "cfg": 3.5, "sampler_name": "lcm", "on": false}},
		"3": {"class_type": "KSampler", "inputs": {"seed": 18446744073709551615, "tile": 24, "text": "line\nline", "from": ["1", 0]}}}`, string(g.JSON()))
	require.Contains(t, string(g.JSON()), "18446744073709551615", "not rounded")
}

func TestNoParamsIsTheGraphAsSaved(t *testing.T) {
	g := parse(t, bound)
	before := string(g.JSON())
	media, err := Bind(g, boundParams(), values(t, `{"text": null}`))
	require.NoError(t, err)
	require.Empty(t, media)
	require.Equal(t, before, string(g.JSON()))
}

func TestBindRefusesWhatDoesNotFit(t *testing.T) {
	for _, c := range []struct{ values, name, field, says string }{
		{`{"sede": 1}`, ErrNameUnknownParam, "params.sede", "image, seed, cfg"},
		{`{"seed": -1}`, ErrNameBadValue, "params.seed", "at least 0"},
		{`{"seed": 18446744073709551616}`, ErrNameBadValue, "params.seed", "at most"},
		{`{"seed": 1.5}`, ErrNameBadValue, "params.seed", "whole number"},
		{`{"seed": "one"}`, ErrNameBadValue, "params.seed", "whole number"},
		{`{"cfg": 0.99}`, ErrNameBadValue, "params.cfg", "at least 1"},
		{`{"cfg": "1e"}`, ErrNameBadValue, "params.cfg", "number"},
		{`{"cfg": [1]}`, ErrNameBadValue, "params.cfg", "number"},
		{`{"sampler": "heun"}`, ErrNameBadValue, "params.sampler", "euler, lcm"},
		{`{"on": 1}`, ErrNameBadValue, "params.on", "true or false"},
		{`{"text": ["2", 0]}`, ErrNameBadValue, "params.text", "text"},
		{`{"image": ""}`, ErrNameBadValue, "params.image", "media"},
		{`{"image": ["2", 0]}`, ErrNameBadValue, "params.image", "text"},
	} {
		g := parse(t, bound)
		_, err := Bind(g, boundParams(), values(t, c.values))
		e := problem(t, err, c.name)
		require.Equal(t, c.field, e.Fields[0].Field)
		require.Contains(t, e.Detail, c.says, c.values)
	}
}

func TestARefusedBindChangesNothingAndNamesAll(t *testing.T) {
	g := parse(t, bound)
	before := string(g.JSON())
	params := boundParams()
	params[0].Required = true
	_, err := Bind(g, params, values(t, `{"seed": 9, "cfg": 99, "on": "maybe"}`))
	e := problem(t, err, ErrNameMissingParam)
	require.Len(t, e.Fields, 3)
	require.Equal(t, before, string(g.JSON()))
}

func TestCheckParamsRefusesListsThatDoNotFitTheGraph(t *testing.T) {
	g := parse(t, bound)
	for what, p := range map[string]Param{
		"key":         {Key: "Seed", Type: TypeSeed, Targets: []Target{{"2", "seed"}}},
		"type":        {Key: "seed", Type: "colour", Targets: []Target{{"2", "seed"}}},
		"node":        {Key: "seed", Type: TypeSeed, Targets: []Target{{"9", "seed"}}},
		"field":       {Key: "seed", Type: TypeSeed, Targets: []Target{{"2", "sead"}}},
		"no targets":  {Key: "seed", Type: TypeSeed},
		"no options":  {Key: "seed", Type: TypeChoice, Targets: []Target{{"2", "seed"}}},
		"not a limit": {Key: "seed", Type: TypeSeed, Min: "low", Targets: []Target{{"2", "seed"}}},
	} {
		t.Run(what, func(t *testing.T) { problem(t, CheckParams(g, []Param{p}), ErrNameBadParams) })
	}
	twice := Param{Key: "seed", Type: TypeSeed, Targets: []Target{{"2", "seed"}}}
	problem(t, CheckParams(g, []Param{twice, twice}), ErrNameBadParams)
}

func TestParamsSurviveStorage(t *testing.T) {
	g := parse(t, bound)
	params := WithDefaults(g, boundParams())
	require.Equal(t, "5", string(params[1].Default))
	raw, err := json.Marshal(params)
	require.NoError(t, err)
	again, err := ParseParams(raw)
	require.NoError(t, err)
	require.Equal(t, params, again)
	linked := WithDefaults(g, []Param{{Key: "x", Type: TypeText, Targets: []Target{{"3", "from"}}}})
	require.Nil(t, linked[0].Default)
	_, err = ParseParams([]byte("{"))
	problem(t, err, ErrNameBadParams)
}

// jsonSchema reads a schema as a validator does.
func jsonSchema(t *testing.T, params []Param) *openapi3.Schema {
	t.Helper()
	var s openapi3.Schema
	require.NoError(t, json.Unmarshal(Schema(params), &s))
	require.NoError(t, s.Validate(openapi3.WithValidationOptions(t.Context(), openapi3.IsOpenAPI31OrLater())))
	return &s
}

func TestSchemaAcceptsWhatBindAccepts(t *testing.T) {
	s := jsonSchema(t, WithDefaults(parse(t, bound), boundParams()))
	for _, c := range []struct {
		values string
		good   bool
	}{
		{`{}`, true},
		{`{"seed": 12, "cfg": 3.5, "sampler": "lcm", "on": false, "image": "x.png"}`, true},
		{`{"cfg": 21}`, false}, {`{"sampler": "heun"}`, false}, {`{"other": 1}`, false}, {`{"image": ""}`, false}, {`{"seed": 1.5}`, false},
	} {
		var v any
		require.NoError(t, json.Unmarshal([]byte(c.values), &v))
		require.Equal(t, c.good, s.VisitJSON(v) == nil, c.values)
		_, err := Bind(parse(t, bound), boundParams(), values(t, c.values))
		require.Equal(t, c.good, err == nil, c.values)
	}
}
