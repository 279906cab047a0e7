import com.github.victools.jsonschema.generator.*;
import com.github.victools.jsonschema.module.jackson.*;
import com.fasterxml.jackson.annotation.*;
import com.fasterxml.jackson.databind.*;
import com.fasterxml.jackson.databind.node.*;
import java.nio.file.*;

/** JSON schemas of Strimzi's custom resources, from the classes of io.strimzi:api that the operator itself reads them with. */
public class Strimzi {
    public static void main(String[] args) throws Exception {
        var builder = new SchemaGeneratorConfigBuilder(SchemaVersion.DRAFT_2020_12, OptionPreset.PLAIN_JSON);
        builder.with(new JacksonModule(JacksonOption.RESPECT_JSONPROPERTY_ORDER));
        builder.with(Option.FORBIDDEN_ADDITIONAL_PROPERTIES_BY_DEFAULT, Option.DEFINITIONS_FOR_ALL_OBJECTS, Option.FLATTENED_ENUMS_FROM_TOSTRING);
        builder.forFields().withIgnoreCheck(f -> f.getName().equals("additionalProperties") || f.getAnnotation(JsonIgnore.class) != null);
        builder.forTypesInGeneral().withCustomDefinitionProvider((type, context) -> {
            String name = type.getErasedType().getName();
            var node = context.getGeneratorConfig().createObjectNode();
            if (name.equals("io.fabric8.kubernetes.api.model.Quantity")) { node.putArray("type").add("string").add("number"); return new CustomDefinition(node); }
            if (name.equals("io.fabric8.kubernetes.api.model.IntOrString")) { node.putArray("type").add("string").add("integer"); return new CustomDefinition(node); }
            if (name.equals("io.fabric8.kubernetes.api.model.ObjectMeta")) { node.put("type", "object"); return new CustomDefinition(node); }
            if (type.getErasedType().isEnum()) {
                try {
                    var values = node.putArray("enum");
                    var mapper = new ObjectMapper();
                    for (Object c : type.getErasedType().getEnumConstants()) values.add(mapper.valueToTree(c));
                    return new CustomDefinition(node);
                } catch (Exception e) { throw new RuntimeException(e); }
            }
            return null;
        });
        var generator = new SchemaGenerator(builder.build());
        String[] names = {"kafka.Kafka", "nodepool.KafkaNodePool", "topic.KafkaTopic", "user.KafkaUser"};
        for (String name : names) {
            Class<?> c = Class.forName("io.strimzi.api.kafka.model." + name + "Spec");
            ObjectNode schema = generator.generateSchema(c);
            Class<?> r = Class.forName("io.strimzi.api.kafka.model." + name);
            System.out.println(r.getField("VERSIONS").get(null));
            Files.writeString(Path.of(args[0], c.getSimpleName() + ".json"), new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(schema));
        }
    }
}
