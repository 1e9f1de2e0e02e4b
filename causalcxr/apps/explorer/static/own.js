// An object's own entry: variables may be called constructor or toString, which every object has.

export function own(table, name) {
  return table && Object.hasOwn(table, name) ? table[name] : undefined;
}
