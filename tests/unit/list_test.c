#include "base/list.h"

#include "tests/unit/unit.h"

struct item {
    int number;
    struct peal_link link;
};

static void assert_numbers(const struct peal_link *list, const int *numbers, int count)
{
    int i = 0;
    PEAL_LIST_EACH(list, it, after)
    {
        assert_true(i < count);
        assert_int_equal(PEAL_FROM_LINK(it, struct item, link)->number, numbers[i]);
        assert_ptr_equal(it->next->prev, it);
        i++;
    }
    assert_int_equal(i, count);
}

static void list_new_is_empty_and_walks_nowhere(void **state)
{
    (void)state;
    struct peal_link list;
    peal_link_init(&list);
    assert_true(peal_list_empty(&list));
    assert_numbers(&list, NULL, 0);
}

static void list_append_keeps_order(void **state)
{
    (void)state;
    struct peal_link list;
    struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    peal_link_init(&list);
    for (int i = 0; i < 3; i++)
        peal_list_append(&list, &items[i].link);
    assert_false(peal_list_empty(&list));
    assert_numbers(&list, (const int[]){1, 2, 3}, 3);
}

static void list_remove_twice_is_harmless(void **state)
{
    (void)state;
    struct peal_link list;
    struct item items[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    peal_link_init(&list);
    for (int i = 0; i < 3; i++)
        peal_list_append(&list, &items[i].link);
    peal_list_remove(&items[1].link);
    peal_list_remove(&items[1].link);
    assert_numbers(&list, (const int[]){1, 3}, 2);
    assert_true(peal_list_empty(&items[1].link));
    peal_list_append(&list, &items[1].link);
    assert_numbers(&list, (const int[]){1, 3, 2}, 3);
}

static void list_walk_may_remove_the_object_it_is_at(void **state)
{
    (void)state;
    struct peal_link list;
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    peal_link_init(&list);
    for (int i = 0; i < 4; i++)
        peal_list_append(&list, &items[i].link);
    PEAL_LIST_EACH(&list, it, after)
    {
        if (PEAL_FROM_LINK(it, struct item, link)->number % 2 == 1) peal_list_remove(it);
    }
    assert_numbers(&list, (const int[]){2, 4}, 2);
    PEAL_LIST_EACH(&list, it, after)
    peal_list_remove(it);
    assert_true(peal_list_empty(&list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_new_is_empty_and_walks_nowhere),
        cmocka_unit_test(list_append_keeps_order),
        cmocka_unit_test(list_remove_twice_is_harmless),
        cmocka_unit_test(list_walk_may_remove_the_object_it_is_at),
    };
    return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
