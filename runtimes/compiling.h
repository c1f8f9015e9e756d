/* Inline caches for what mypyc looks up by name at run time: attributes of values, imported names, methods of builtins.
 *
 * The interpreter remembers at each place where it found a name (PEP 659); C code that mypyc makes asks the type or the
 * module anew each time, which was a quarter of a compiled request. Here every place has its own small cache, too. It is
 * valid for one version of one type or dictionary: whoever changes either gives it a new version, and the place looks anew.
 *
 * hatch_build.py puts this behind the includes of the C code, and its names in place of mypyc's where what is looked up
 * is the same each time: gw_ATTRIBUTE for CPyObject_GetAttr, gw_NAME for CPyDict_GetItem of a module. It needs the GIL,
 * and dictionaries with versions.
 */

/* Where an exception passes through is half of the code, and no request that goes well comes there: it is put elsewhere,
 * so that it takes up no room in the processor's cache of instructions. */
#ifdef __GNUC__
void CPy_AddTraceback(const char *, const char *, int, PyObject *) __attribute__((cold));
#endif

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000 && !defined(Py_GIL_DISABLED) && defined(__GNUC__)
#include <structmember.h>

typedef struct {
    PyTypeObject *type;
    unsigned int version; /* of the type */
    Py_ssize_t offset;    /* of an attribute that is a slot, else 0 */
    PyObject *found;      /* what the type has by the name, a property in C or a method; the type holds it */
} gw_TypeCache;

typedef struct {
    PyObject *value;
    uint64_t version; /* of the module's dictionary; 0 is none */
} gw_NameCache;

/* Does the type look names up as object does, with nothing of the instance's coming first? */
static inline int gw_plain(PyTypeObject *type) {
    return type->tp_getattro == PyObject_GenericGetAttr && type->tp_dictoffset == 0 &&
           !(type->tp_flags & Py_TPFLAGS_MANAGED_DICT);
}

static inline int gw_known(gw_TypeCache *cache, PyTypeObject *type) {
    return cache->type == type && cache->version == type->tp_version_tag &&
           (type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG);
}

static inline void gw_keep(gw_TypeCache *cache, PyTypeObject *type, Py_ssize_t offset, PyObject *found) {
    if (type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG) {
        cache->type = type;
        cache->version = type->tp_version_tag;
        cache->offset = offset;
        cache->found = found;
    }
}

static CPy_NOINLINE PyObject *gw_find_attribute(PyObject *object, PyObject *name, gw_TypeCache *cache) {
    PyTypeObject *type = Py_TYPE(object);
    if (gw_plain(type)) {
        PyObject *found = _PyType_Lookup(type, name); /* gives the type its version */
        if (found != NULL && Py_IS_TYPE(found, &PyMemberDescr_Type)) {
            PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
            if (member->type == T_OBJECT_EX && !(member->flags & READ_RESTRICTED))
                gw_keep(cache, type, member->offset, found);
        } else if (found != NULL && Py_IS_TYPE(found, &PyGetSetDescr_Type)) {
            if (((PyGetSetDescrObject *)found)->d_getset->get != NULL)
                gw_keep(cache, type, 0, found);
        }
    }
    return PyObject_GetAttr(object, name);
}

static inline PyObject *gw_attribute(PyObject *object, PyObject *name, gw_TypeCache *cache) {
    if (likely(gw_known(cache, Py_TYPE(object)))) {
        if (cache->offset == 0) {
            PyGetSetDef *property = ((PyGetSetDescrObject *)cache->found)->d_getset;
            return property->get(object, property->closure);
        }
        PyObject *value = *(PyObject **)((char *)object + cache->offset);
        if (likely(value != NULL)) {
            Py_INCREF(value);
            return value;
        }
    }
    return gw_find_attribute(object, name, cache);
}

static CPy_NOINLINE PyObject *gw_find_name(PyObject *globals, PyObject *name, gw_NameCache *cache) {
    PyObject *value = CPyDict_GetItem(globals, name);
    if (value != NULL) {
        cache->value = value; /* the module holds it while its version stays */
        cache->version = ((PyDictObject *)globals)->ma_version_tag;
    }
    return value;
}

static inline PyObject *gw_name(PyObject *globals, PyObject *name, gw_NameCache *cache) {
    if (likely(cache->version == ((PyDictObject *)globals)->ma_version_tag)) { /* no two dictionaries ever share one */
        Py_INCREF(cache->value);
        return cache->value;
    }
    return gw_find_name(globals, name, cache);
}

static CPy_NOINLINE PyObject *gw_find_method(PyObject *name, PyObject *const *args, size_t nargsf, PyObject *names,
                                         gw_TypeCache *cache) {
    PyTypeObject *type = Py_TYPE(args[0]);
    if (gw_plain(type)) {
        PyObject *found = _PyType_Lookup(type, name);
        if (found != NULL && PyType_HasFeature(Py_TYPE(found), Py_TPFLAGS_METHOD_DESCRIPTOR))
            gw_keep(cache, type, 0, found);
    }
    return PyObject_VectorcallMethod(name, args, nargsf, names);
}

static inline PyObject *gw_call_method(PyObject *name, PyObject *const *args, size_t nargsf, PyObject *names,
                                       gw_TypeCache *cache) {
    if (likely(gw_known(cache, Py_TYPE(args[0])))) {
        PyObject *method = cache->found;
        Py_INCREF(method); /* it may change its type */
        PyObject *result = PyObject_Vectorcall(method, args, nargsf & ~PY_VECTORCALL_ARGUMENTS_OFFSET, names);
        Py_DECREF(method);
        return result;
    }
    return gw_find_method(name, args, nargsf, names, cache);
}

#define gw_ATTRIBUTE(object, name) \
    (__extension__({ static gw_TypeCache gw_here; gw_attribute((object), (name), &gw_here); }))
#define gw_NAME(globals, name) \
    (__extension__({ static gw_NameCache gw_here; gw_name((globals), (name), &gw_here); }))
#define PyObject_VectorcallMethod(name, args, nargsf, names) \
    (__extension__({ static gw_TypeCache gw_here; gw_call_method((name), (args), (nargsf), (names), &gw_here); }))
#else
#define gw_ATTRIBUTE CPyObject_GetAttr
#define gw_NAME CPyDict_GetItem
#endif
