// Prints JSON schemas of custom resources, from the Go types that their operators read them with.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

type object = map[string]any

var definitions = object{}

// loose types have a JSON form of their own
var loose = map[string]object{
	"k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta":        {"type": "object"},
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":              {"type": "string"},
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":          {"type": "string"},
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":        {"type": []string{"string", "integer"}},
	"k8s.io/apimachinery/pkg/api/resource.Quantity":          {"type": []string{"string", "number"}},
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON": {},
}

func schema(t reflect.Type) object {
	name := t.PkgPath() + "." + t.Name()
	if found, ok := loose[name]; ok {
		return found
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Uint8, reflect.Uint:
		return object{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string"}
		}
		return object{"type": "array", "items": schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schema(t.Elem())}
	case reflect.Struct:
		if _, ok := definitions[name]; !ok {
			definitions[name] = nil // a recursive type refers to itself
			properties, required := object{}, []string{}
			fields(t, properties, &required)
			definitions[name] = object{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
		}
		return object{"$ref": "#/$defs/" + strings.ReplaceAll(name, "/", "~1")}
	}
	panic("no schema for " + t.String())
}

func fields(t reflect.Type, properties object, required *[]string) {
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		tag := strings.Split(field.Tag.Get("json"), ",")
		if tag[0] == "-" || !field.IsExported() {
			continue
		}
		if tag[0] == "" {
			inner := field.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			fields(inner, properties, required)
			continue
		}
		properties[tag[0]] = schema(field.Type)
		optional := field.Type.Kind() == reflect.Pointer
		for _, option := range tag[1:] {
			optional = optional || option == "omitempty" || option == "omitzero"
		}
		if !optional {
			*required = append(*required, tag[0])
		}
	}
}

func write(folder, kind string, value any) {
	definitions = object{}
	root := schema(reflect.TypeOf(value))
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$defs"] = definitions
	text, err := json.Marshal(root)
	if err == nil {
		err = os.WriteFile(folder+"/"+kind+".json", append(text, '\n'), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	folder := os.Args[1]
	write(folder, "ScaledObject", keda.ScaledObject{})
	write(folder, "TriggerAuthentication", keda.TriggerAuthentication{})
	write(folder, "PodMonitor", monitoring.PodMonitor{})
	write(folder, "PrometheusRule", monitoring.PrometheusRule{})
}
