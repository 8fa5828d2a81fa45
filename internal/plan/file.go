package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/field"
)

var format = document.Format{Expected: map[reflect.Type]string{
	reflect.TypeFor[Duration]():  `must be a duration such as "30s" or "1h30m"`,
	reflect.TypeFor[time.Time](): `must be a date and time such as "2006-01-02T15:04:05Z"`,
}}

// Read reads and validates a plan file: a JSON object with the fields of Plan, at most 1 MiB. Unknown and duplicate
// fields are errors.
func Read(path string) (*Plan, error) {
	text, err := document.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("plan file %s: %w", path, err)
	}
	return p, nil
}

// Parse parses the text of a plan file and validates the plan. The function Read describes the format of the text.
func Parse(text []byte) (*Plan, error) {
	p := new(Plan)
	if err := format.Decode(text, p); err != nil {
		return nil, err
	}
	if err := p.validate(textsIn(text)); err != nil {
		return nil, err
	}
	return p, nil
}

// textsIn returns the strings in a JSON document. The keys of the map are the paths of the strings.
func textsIn(text []byte) map[field.Path]string {
	var value any
	_ = json.Unmarshal(text, &value) // Unmarshal does not fail, because Parse has already decoded the text
	texts := map[field.Path]string{}
	addTexts(texts, "", value)
	return texts
}

func addTexts(texts map[field.Path]string, path field.Path, value any) {
	switch value := value.(type) {
	case string:
		texts[path] = value
	case map[string]any:
		for name, member := range value {
			addTexts(texts, path.Child(name), member)
		}
	case []any:
		for i, element := range value {
			addTexts(texts, path.Index(i), element)
		}
	}
}

// Marshal returns the plan as the text of a plan file. Equal plans have equal texts.
func (p *Plan) Marshal() ([]byte, error) {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshal plan of %s: %w", p.Simulation, err)
	}
	return append(text, '\n'), nil
}
