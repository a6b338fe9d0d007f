/* The store of storage/ has to keep the contract of tests/contract. */
#include "tests/contract/contract.h"
#include "tests/unit/unit.h"

#include "tests/unit/disk.h" /* how full the machine's own disk is does not matter */

int main(void)
{
    const struct contract_store *impl = &contract_local;
    disk_reset();
    return contract_numbers(impl) + contract_marks(impl) + contract_keep(impl) +
           contract_pages(impl) + contract_slots(impl) + contract_life(impl);
}
